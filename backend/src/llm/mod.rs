//! Language models behind an OpenAI-compatible `/chat/completions`. A convenience: without one, or while it is in
//! trouble, the caller's own rules answer.

mod chat;
pub mod store;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Method, Request, Uri, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::external;
use crate::metrics::{FeatureLabels, Metrics, ModelErrorLabels, ModelLabels, PromptLabels, TokenLabels};
use crate::outbound::{CallError, Http, Patience, Service, breaker};

/// Which model, where, and what it costs.
#[derive(Clone)]
pub struct Settings {
    /// Where `/chat/completions` is appended; without it the rules answer everything.
    pub base_url: Option<String>,
    /// Sent as bearer token, if there is one.
    pub key: Option<String>,
    /// Name of the model; also the label `model`.
    pub model: String,
    /// Dollars for a million tokens of the prompt.
    pub prompt_price: f64,
    /// Dollars for a million tokens of the completion.
    pub completion_price: f64,
    /// How long a user waits for the model, with all tries, before the rules answer.
    pub patience: Duration,
    /// When the model is left alone.
    pub breaker: breaker::Limits,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            base_url: None,
            key: None,
            model: "gpt-4o-mini".to_owned(),
            prompt_price: 0.0,
            completion_price: 0.0,
            patience: Duration::from_secs(12),
            breaker: breaker::Limits { failures: 5, pause: Duration::from_secs(15) },
        }
    }
}

/// Why the model cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LlmError {
    /// The base URL.
    #[error("the language model's base URL must be http:// or https:// with a host")]
    Url,
    /// The key.
    #[error("the language model's key cannot be sent in a header")]
    Key,
    /// The name.
    #[error("the language model's name must have 1 to 100 characters")]
    Model,
}

/// What a model is asked.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// What it is for.
    pub kind: PromptKind,
    /// The rules of the game.
    pub system: &'static str,
    /// The case, as JSON or text.
    pub user: String,
}

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptKind {
    /// The domain: label `feature`.
    pub feature: &'static str,
    /// Label `prompt_type`.
    pub name: &'static str,
}

/// All kinds of questions.
pub const PROMPTS: &[PromptKind] = &[
    crate::negotiations::dealer::INITIAL,
    crate::negotiations::dealer::COUNTER,
    crate::negotiations::dealer::CHAT,
    crate::evaluations::handlers::SUMMARY,
];

/// Characters of a text that a model may write.
const LONGEST: usize = 4_000;

/// Whether a text of a model can be stored and shown.
pub fn speakable(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= LONGEST && !text.contains('\0')
}

/// What an answer cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// The model that answered; [`RULES`] for the embedded rules.
    pub model: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub completion_tokens: u32,
    /// Dollars.
    pub cost: f64,
}

/// What stands in for the name of a model when the embedded rules answered.
pub const RULES: &str = "rules";

impl Usage {
    /// The embedded rules cost nothing.
    pub fn rules() -> Usage {
        Usage { model: RULES.to_owned(), prompt_tokens: 0, completion_tokens: 0, cost: 0.0 }
    }

    /// Whether a model answered.
    pub fn is_llm(&self) -> bool {
        self.model != RULES
    }
}

/// The model, if there is one.
#[derive(Debug)]
pub struct Llm {
    endpoint: Option<Endpoint>,
    model: String,
    prices: (f64, f64),
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Endpoint {
    service: Service,
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl Llm {
    /// Calls the model of `settings` through `http`.
    ///
    /// # Errors
    /// See [`LlmError`].
    pub fn new(settings: &Settings, http: &Http, metrics: Arc<Metrics>) -> Result<Llm, LlmError> {
        if !(1..=100).contains(&settings.model.chars().count()) {
            return Err(LlmError::Model);
        }
        let patience = Patience {
            tries: 2,
            each: settings.patience,
            all: settings.patience,
            pause: Duration::from_millis(300),
            breaker: settings.breaker,
        };
        let endpoint = settings.base_url.as_deref().map(|base| {
            let uri = external::address(&format!("{}/chat/completions", base.trim_end_matches('/')))
                .ok_or(LlmError::Url)?;
            let authorization = settings.key.as_deref().map(authorization).transpose()?;
            Ok(Endpoint { service: Service::new(http.clone(), patience), uri, authorization })
        });
        create_series(&metrics, &settings.model);
        Ok(Llm {
            endpoint: endpoint.transpose()?,
            model: settings.model.clone(),
            prices: (settings.prompt_price, settings.completion_price),
            metrics,
        })
    }

    /// The model's answer to `prompt`, read from the JSON that it was told to write, if it is `acceptable`.
    /// `None` if there is no model or it failed, which is counted.
    pub async fn answer<T: DeserializeOwned>(
        &self,
        prompt: &Prompt,
        acceptable: impl FnOnce(&T) -> bool,
    ) -> Option<(T, Usage)> {
        let endpoint = self.endpoint.as_ref()?;
        let model = || self.model.clone();
        let PromptKind { feature, name } = prompt.kind;
        self.metrics
            .llm_requests
            .get_or_create_owned(&PromptLabels { model: model(), prompt_type: name })
            .inc();
        let started = Instant::now();
        let result = self.ask(endpoint, prompt).await;
        self.metrics
            .llm_request_duration
            .get_or_create_owned(&ModelLabels { model: model() })
            .observe(started.elapsed().as_secs_f64());
        let result = result.and_then(|(text, usage)| {
            // Paid for, of use or not.
            let answer = chat::read_json(&text).filter(acceptable);
            answer
                .map(|answer| (answer, usage))
                .ok_or_else(|| CallError::InvalidAnswer("not what the prompt asks for".to_owned()))
        });
        result
            .inspect_err(|error| {
                tracing::warn!(%error, model = self.model, prompt_type = name, "the rules answer instead");
                let labels = ModelErrorLabels { model: model(), error_type: error.kind() };
                self.metrics.llm_errors.get_or_create_owned(&labels).inc();
                self.metrics.llm_fallbacks.get_or_create_owned(&FeatureLabels { feature }).inc();
            })
            .ok()
    }

    async fn ask(&self, endpoint: &Endpoint, prompt: &Prompt) -> Result<(String, Usage), CallError> {
        let mut request = Request::new(Bytes::from(chat::request(&self.model, prompt)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoint.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &endpoint.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let answer = endpoint.service.call(&request).await?;
        let completion = chat::read(&answer.body)?;
        let (prompt_tokens, completion_tokens) = completion.tokens;
        let dollars = f64::from(prompt_tokens) * self.prices.0 + f64::from(completion_tokens) * self.prices.1;
        let cost = dollars / 1e6;
        for (token_type, tokens) in [("prompt", prompt_tokens), ("completion", completion_tokens)] {
            let labels = TokenLabels { model: self.model.clone(), token_type };
            self.metrics.llm_tokens.get_or_create_owned(&labels).inc_by(u64::from(tokens));
        }
        self.metrics.llm_cost.get_or_create_owned(&ModelLabels { model: self.model.clone() }).inc_by(cost);
        Ok((completion.text, Usage { model: self.model.clone(), prompt_tokens, completion_tokens, cost }))
    }
}

/// Everything that can be counted of `model`, at 0.
fn create_series(metrics: &Metrics, model: &str) {
    let model = || model.to_owned();
    for PromptKind { feature, name } in PROMPTS {
        metrics.llm_requests.get_or_create_owned(&PromptLabels { model: model(), prompt_type: name });
        metrics.llm_fallbacks.get_or_create_owned(&FeatureLabels { feature });
    }
    for token_type in ["prompt", "completion"] {
        metrics.llm_tokens.get_or_create_owned(&TokenLabels { model: model(), token_type });
    }
    for error_type in CallError::KINDS {
        metrics.llm_errors.get_or_create_owned(&ModelErrorLabels { model: model(), error_type });
    }
    metrics.llm_cost.get_or_create_owned(&ModelLabels { model: model() });
    metrics.llm_request_duration.get_or_create_owned(&ModelLabels { model: model() });
}

fn authorization(key: &str) -> Result<HeaderValue, LlmError> {
    let mut value = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| LlmError::Key)?;
    value.set_sensitive(true);
    Ok(value)
}
