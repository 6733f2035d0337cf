//! Every metric of the service, once: field, type, name; the doc comment is the HELP text.
//! Closed label sets exist at 0 from the start, so that `rate()` sees the first event.

use std::sync::atomic::AtomicU64;

use axum::http::HeaderValue;
use prometheus_client::encoding::{
    EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder, MetricEncoder,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use crate::db::Operation;
use crate::deals::DealStatus;
use crate::evaluations::Recommendation;
use crate::loans::LoanStatus;
use crate::negotiations::{NegotiationStatus, Role};
use crate::vehicles::SearchType;
use crate::webhooks::delivery;

/// Upper bounds of a histogram, in the unit of its metric.
#[derive(Clone, Copy, Debug)]
pub struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

impl<S> MetricConstructor<HistogramWithExemplars<S>> for Buckets {
    fn new_metric(&self) -> HistogramWithExemplars<S> {
        HistogramWithExemplars::new(self.0.iter().copied())
    }
}

impl Buckets {
    fn family<L: Clone + std::hash::Hash + Eq, M>(self) -> Family<L, M, Buckets> {
        Family::new_with_constructor(self)
    }
}

/// A gauge of what is going on.
#[derive(Clone, Debug, Default)]
pub struct Active(Gauge);

impl Active {
    /// Counts one more until what is given is dropped.
    pub fn hold(&self) -> Held {
        self.0.inc();
        Held(self.0.clone())
    }
}

impl TypedMetric for Active {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Active {
    fn encode(&self, encoder: MetricEncoder<'_>) -> std::fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        Active::TYPE
    }
}

/// One that is going on.
#[derive(Debug)]
pub struct Held(Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A counter of dollars.
pub type Dollars = Counter<f64, AtomicU64>;

/// A histogram by labels.
pub type Histograms<L> = Family<L, Histogram, Buckets>;

/// Seconds of a request; reaches past the 2 s of the latency alert, so that a quantile is not capped below it.
const REQUEST_SECONDS: Buckets =
    Buckets(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0]);
/// Seconds of a statement; reaches past the 1 s of the slow-query alert and the statement timeout.
const QUERY_SECONDS: Buckets =
    Buckets(&[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
/// Bytes of a body, in powers of four up to 1 MiB.
const BODY_BYTES: Buckets = Buckets(&[64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0]);
/// Seconds of one password hash, including the wait for a free slot.
const HASH_SECONDS: Buckets = Buckets(&[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);

/// Seconds of a search or of filing an application.
const ACTION_SECONDS: Buckets =
    Buckets(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
/// Seconds of a command to Redis; reaches past its timeout of 1 s and one more try.
const CACHE_SECONDS: Buckets =
    Buckets(&[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.5]);

/// Seconds of a negotiation, up to a day.
const NEGOTIATION_SECONDS: Buckets =
    Buckets(&[10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0, 86400.0]);
/// Seconds of a language model's answer.
const LLM_SECONDS: Buckets = Buckets(&[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0]);

/// The id of a request, which the log has too.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct RequestId(pub HeaderValue);

impl EncodeLabelValue for RequestId {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        self.0.to_str().unwrap_or_default().encode(encoder)
    }
}

/// Which request an exemplar is of.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ExemplarLabels {
    /// Its id.
    pub request_id: RequestId,
}

/// One route.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RouteLabels {
    /// HTTP method, `other` if it is none of the registered ones.
    pub method: &'static str,
    /// Route template, `unmatched` if there is none.
    pub handler: &'static str,
}

impl RouteLabels {
    /// Those of its answers with `status`.
    pub fn answer(&self, status: u16) -> AnswerLabels {
        AnswerLabels { method: self.method, status, handler: self.handler }
    }
}

/// One answer of one route.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct AnswerLabels {
    /// HTTP method, `other` if it is none of the registered ones.
    pub method: &'static str,
    /// Status code.
    pub status: u16,
    /// Route template, `unmatched` if there is none.
    pub handler: &'static str,
}

/// One kind of statement.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct QueryLabels {
    /// What the statement does.
    pub operation: Operation,
    /// The table that it does it to.
    pub table: &'static str,
}

/// A label `status`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct StatusLabels {
    /// The status, as the database's enum names it where there is one.
    pub status: &'static str,
}

/// A label `search_type`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct SearchLabels {
    /// The type, as the database's enum names it.
    pub search_type: &'static str,
}

/// A label `cache_name`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CacheLabels {
    /// What is kept.
    pub cache_name: &'static str,
}

/// A label `role`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RoleLabels {
    /// The role, as the database's enum names it.
    pub role: &'static str,
}

/// A label `outcome`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// The final status, as the database's enum names it.
    pub outcome: &'static str,
}

/// A label `feature`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct FeatureLabels {
    /// The domain that asked.
    pub feature: &'static str,
}

/// A label `model`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ModelLabels {
    /// The configured model.
    pub model: String,
}

/// What a model was asked.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PromptLabels {
    /// The configured model.
    pub model: String,
    /// The kind of question.
    pub prompt_type: &'static str,
}

/// Which tokens.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct TokenLabels {
    /// The configured model.
    pub model: String,
    /// `prompt` or `completion`.
    pub token_type: &'static str,
}

/// How a model failed.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ModelErrorLabels {
    /// The configured model.
    pub model: String,
    /// See [`crate::outbound::CallError::KINDS`].
    pub error_type: &'static str,
}

/// A label `api_name`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ApiLabels {
    /// The service of others.
    pub api_name: &'static str,
}

/// How a call ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ApiStatusLabels {
    /// The service of others.
    pub api_name: &'static str,
    /// `ok` or `error`.
    pub status: &'static str,
}

/// How a call failed.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ApiErrorLabels {
    /// The service of others.
    pub api_name: &'static str,
    /// See [`crate::outbound::CallError::KINDS`].
    pub error_type: &'static str,
}

/// A label `recommendation`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RecommendationLabels {
    /// What an evaluation came to.
    pub recommendation: &'static str,
}

/// What was done with which cache.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CacheOperationLabels {
    /// `get` or `set`.
    pub operation: &'static str,
    /// What is kept.
    pub cache_name: &'static str,
}

/// A metric of the list, for the reference page.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// Name as Prometheus stores it.
    pub name: &'static str,
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: &'static str,
    /// HELP text.
    pub help: &'static str,
}

const fn kind_name(kind: MetricType) -> &'static str {
    match kind {
        MetricType::Counter => "counter",
        MetricType::Gauge => "gauge",
        MetricType::Histogram => "histogram",
        MetricType::Info => "info",
        MetricType::Unknown => "unknown",
    }
}

macro_rules! metrics {
    ($( $(#[doc = $help:literal])+ $field:ident: $type:ty = $new:expr => $name:literal; )+) => {
        /// Handles to all metrics of one running service.
        #[derive(Debug)]
        pub struct Metrics {
            $( $(#[doc = $help])+ pub $field: $type, )+
        }

        /// All metrics, in the order of the page.
        pub const LIST: &[Listed] = &[
            $( Listed {
                name: $name,
                kind: kind_name(<$type as TypedMetric>::TYPE),
                help: concat!($($help),+),
            }, )+
        ];

        impl Metrics {
            fn register(registry: &mut Registry) -> Metrics {
                let metrics = Metrics { $( $field: $new, )+ };
                // The encoder appends `_total` to a counter's name and a full stop to its help.
                $( registry.register(
                    $name.trim_end_matches("_total"),
                    concat!($($help),+).trim().trim_end_matches('.'),
                    metrics.$field.clone(),
                ); )+
                metrics
            }
        }
    };
}

metrics! {
    /// HTTP requests answered, by route template and status code; 499 is a client that left first.
    http_requests: Family<AnswerLabels, Counter> = Family::default() => "http_requests_total";
    /// Time from the request's head to the answer's head.
    http_request_duration: Family<RouteLabels, HistogramWithExemplars<ExemplarLabels>, Buckets> = REQUEST_SECONDS.family() => "http_request_duration_seconds";
    /// Size of request bodies as announced by Content-Length.
    http_request_size: Histograms<RouteLabels> = BODY_BYTES.family() => "http_request_size_bytes";
    /// Size of answer bodies.
    http_response_size: Histograms<RouteLabels> = BODY_BYTES.family() => "http_response_size_bytes";
    /// Requests being handled now.
    requests_in_progress: Family<RouteLabels, Gauge> = Family::default() => "autodealgenie_requests_inprogress";

    /// User accounts created.
    user_signups: Counter = Counter::default() => "autodealgenie_user_signups_total";
    /// Logins that were granted.
    auth_success: Counter = Counter::default() => "autodealgenie_auth_success_total";
    /// Logins that were refused: unknown account, wrong password, disabled account, or too many failures before.
    auth_failures: Counter = Counter::default() => "autodealgenie_auth_failures_total";
    /// Logins that were refused unchecked, because too many had failed for the account or from the address.
    auth_limited: Counter = Counter::default() => "autodealgenie_auth_limited_total";
    /// Time of one password hash or comparison, including the wait for a free slot.
    password_hash_duration: Histogram = HASH_SECONDS.new_metric() => "autodealgenie_password_hash_duration_seconds";
    /// Mails with a token that sets a new password.
    password_resets_requested: Counter = Counter::default() => "autodealgenie_password_resets_requested_total";
    /// Passwords that were set with a token.
    password_resets_completed: Counter = Counter::default() => "autodealgenie_password_resets_completed_total";
    /// Users who sent a request to this instance within five minutes.
    active_users: Gauge = Gauge::default() => "autodealgenie_active_users";
    /// Deals created, by the status they were created with.
    deals_created: Family<StatusLabels, Counter> = Family::default() => "autodealgenie_deals_created_total";

    /// Vehicle searches, by type; further pages of a search are not counted again.
    vehicle_searches: Family<SearchLabels, Counter> = Family::default() => "autodealgenie_vehicle_searches_total";
    /// Time of one page of a vehicle search, from the cache or not.
    vehicle_search_duration: Histogram = ACTION_SECONDS.new_metric() => "autodealgenie_vehicle_search_duration_seconds";

    /// Vehicle searches that run now.
    active_searches: Active = Active::default() => "autodealgenie_active_searches";

    /// Loan applications, by the status that they got when they were filed.
    loan_applications: Family<StatusLabels, Counter> = Family::default() => "autodealgenie_loan_applications_total";
    /// Time from a loan application's arrival to its stored status.
    loan_processing_duration: Histogram = ACTION_SECONDS.new_metric() => "autodealgenie_loan_processing_duration_seconds";

    /// Negotiations begun.
    negotiation_sessions: Counter = Counter::default() => "autodealgenie_negotiation_sessions_total";
    /// Messages of negotiations, by who said them.
    negotiation_messages: Family<RoleLabels, Counter> = Family::default() => "autodealgenie_negotiation_messages_total";
    /// Time from the begin of a negotiation to its end, by how it ended.
    negotiation_duration: Histograms<OutcomeLabels> = NEGOTIATION_SECONDS.family() => "autodealgenie_negotiation_duration_seconds";

    /// Negotiations that go on in the database, counted every 15 s; 0 before the first time.
    active_negotiations: Gauge = Gauge::default() => "autodealgenie_active_negotiation_sessions";

    /// Evaluations begun.
    evaluations_started: Counter = Counter::default() => "autodealgenie_evaluations_started_total";
    /// Evaluations completed, by what they recommend.
    evaluations_completed: Family<RecommendationLabels, Counter> = Family::default() => "autodealgenie_evaluations_completed_total";

    /// Alerts made for webhooks.
    webhook_alerts: Counter = Counter::default() => "autodealgenie_webhook_alerts_total";
    /// Tries to deliver an alert: delivered, to be tried again, or given up.
    webhook_deliveries: Family<StatusLabels, Counter> = Family::default() => "autodealgenie_webhook_deliveries_total";
    /// Time of one try to deliver an alert.
    webhook_delivery_duration: Histogram = ACTION_SECONDS.new_metric() => "autodealgenie_webhook_delivery_duration_seconds";
    /// Webhooks switched off after failures in a row.
    webhooks_disabled: Counter = Counter::default() => "autodealgenie_webhooks_disabled_total";

    /// Calls of services of others, with all tries.
    external_api_requests: Family<ApiStatusLabels, Counter> = Family::default() => "autodealgenie_external_api_requests_total";
    /// Time of a call of a service of others, with all tries.
    external_api_duration: Histograms<ApiLabels> = ACTION_SECONDS.family() => "autodealgenie_external_api_duration_seconds";
    /// Calls of services of others that gave nothing of use.
    external_api_errors: Family<ApiErrorLabels, Counter> = Family::default() => "autodealgenie_external_api_errors_total";

    /// Questions to a language model, answered or not.
    llm_requests: Family<PromptLabels, Counter> = Family::default() => "autodealgenie_llm_requests_total";
    /// Tokens that a language model charged.
    llm_tokens: Family<TokenLabels, Counter> = Family::default() => "autodealgenie_llm_tokens_used_total";
    /// What the tokens cost in dollars, by the configured prices.
    llm_cost: Family<ModelLabels, Dollars> = Family::default() => "autodealgenie_llm_cost_usd_total";
    /// Time of a question to a language model, with all tries.
    llm_request_duration: Histograms<ModelLabels> = LLM_SECONDS.family() => "autodealgenie_llm_request_duration_seconds";
    /// Questions to a language model that gave nothing of use.
    llm_errors: Family<ModelErrorLabels, Counter> = Family::default() => "autodealgenie_llm_errors_total";
    /// Questions that the embedded rules answered because the language model failed.
    llm_fallbacks: Family<FeatureLabels, Counter> = Family::default() => "autodealgenie_llm_fallback_total";

    /// Answers that were found in the cache.
    cache_hits: Family<CacheLabels, Counter> = Family::default() => "autodealgenie_cache_hits_total";
    /// Answers that were not in the cache.
    cache_misses: Family<CacheLabels, Counter> = Family::default() => "autodealgenie_cache_misses_total";
    /// Times the cache was bypassed because Redis did not answer.
    cache_errors: Family<CacheOperationLabels, Counter> = Family::default() => "autodealgenie_cache_errors_total";
    /// Time of reading from or writing to the cache.
    cache_operation_duration: Histograms<CacheOperationLabels> = CACHE_SECONDS.family() => "autodealgenie_cache_operation_duration_seconds";

    /// Time of database statements, from sending to the last row.
    db_query_duration: Histograms<QueryLabels> = QUERY_SECONDS.family() => "autodealgenie_db_query_duration_seconds";
    /// Database statements run.
    db_queries: Family<QueryLabels, Counter> = Family::default() => "autodealgenie_db_queries_total";
    /// Database statements that failed, except for violated constraints, which are answers.
    db_query_errors: Family<QueryLabels, Counter> = Family::default() => "autodealgenie_db_query_errors_total";
    /// Connections that could not be had: the server is away, or all stayed taken.
    db_connection_errors: Counter = Counter::default() => "autodealgenie_db_connection_errors_total";
    /// Time spent waiting for a connection of the pool.
    db_pool_wait: Histogram = QUERY_SECONDS.new_metric() => "autodealgenie_db_pool_wait_seconds";
    /// Connections that the pool may open.
    db_pool_max_size: Gauge = Gauge::default() => "autodealgenie_db_pool_max_size";
    /// Connections that the pool holds open.
    db_pool_size: Gauge = Gauge::default() => "autodealgenie_db_pool_size";
    /// Open connections that nobody uses.
    db_pool_available: Gauge = Gauge::default() => "autodealgenie_db_pool_available";
    /// Requests waiting for a connection.
    db_pool_waiting: Gauge = Gauge::default() => "autodealgenie_db_pool_waiting";
}

impl Metrics {
    /// Registers every metric and creates the closed label sets of the business counters at 0. Those of routes, statements
    /// and caches are created by [`crate::http::observe::Observer`], [`crate::db::Db`] and
    /// [`crate::lookaside::Lookaside`], which keep what they resolved.
    pub fn new(registry: &mut Registry, environment: &str) -> Metrics {
        let metrics = Metrics::register(registry);
        registry.register(
            "autodealgenie_app",
            "Version and environment of the service",
            Info::new(vec![
                ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
                ("environment".to_owned(), environment.to_owned()),
            ]),
        );
        for status in DealStatus::ALL {
            metrics.deals_created.get_or_create_owned(&StatusLabels { status: status.as_str() });
        }
        for search_type in SearchType::ALL {
            let labels = SearchLabels { search_type: search_type.as_str() };
            metrics.vehicle_searches.get_or_create_owned(&labels);
        }
        for status in LoanStatus::ALL {
            metrics.loan_applications.get_or_create_owned(&StatusLabels { status: status.as_str() });
        }
        for role in Role::ALL {
            metrics.negotiation_messages.get_or_create_owned(&RoleLabels { role: role.as_str() });
        }
        for outcome in [NegotiationStatus::Completed, NegotiationStatus::Cancelled] {
            metrics.negotiation_duration.get_or_create_owned(&OutcomeLabels { outcome: outcome.as_str() });
        }
        for recommendation in Recommendation::ALL {
            let labels = RecommendationLabels { recommendation: recommendation.as_str() };
            metrics.evaluations_completed.get_or_create_owned(&labels);
        }
        for status in delivery::STATUSES {
            metrics.webhook_deliveries.get_or_create_owned(&StatusLabels { status });
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_rules() {
        let mut names: Vec<_> = LIST.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), LIST.len());
        for metric in LIST {
            assert_eq!(metric.kind == "counter", metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.name.starts_with("http_") || metric.name.starts_with("autodealgenie_"));
            assert!(metric.help.trim().ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn latency_buckets_reach_past_the_alert() {
        assert!(REQUEST_SECONDS.0.iter().any(|bound| *bound > 2.0));
        assert!(QUERY_SECONDS.0.iter().any(|bound| *bound > 1.0));
    }
}
