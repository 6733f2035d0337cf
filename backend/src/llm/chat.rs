//! The wire format of `/chat/completions`. No I/O.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Prompt;
use crate::outbound::CallError;

/// Tokens that an answer may have; ours are a few sentences.
const MAX_TOKENS: u32 = 600;

/// What a model said.
#[derive(Debug, PartialEq)]
pub(super) struct Completion {
    pub(super) text: String,
    /// Of the prompt and of the completion; 0 if the server does not say.
    pub(super) tokens: (u32, u32),
}

/// The body of a request.
pub(super) fn request(model: &str, prompt: &Prompt) -> String {
    json!({
        "model": model,
        "stream": false,
        "temperature": 0.4,
        "max_tokens": MAX_TOKENS,
        "messages": [
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": prompt.user},
        ],
    })
    .to_string()
}

/// Reads the body of an answer.
pub(super) fn read(body: &[u8]) -> Result<Completion, CallError> {
    #[derive(Deserialize)]
    struct Body {
        choices: Vec<Choice>,
        usage: Option<Tokens>,
    }
    #[derive(Deserialize)]
    struct Choice {
        message: Message,
    }
    #[derive(Deserialize)]
    struct Message {
        content: Option<String>,
    }
    #[derive(Deserialize)]
    struct Tokens {
        #[serde(default)]
        prompt_tokens: u32,
        #[serde(default)]
        completion_tokens: u32,
    }
    // The text of the answer stays out of the error: it may quote the user.
    let invalid = |what: &str| CallError::InvalidAnswer(what.to_owned());
    let body: Body = serde_json::from_slice(body).map_err(|_| invalid("not a chat completion"))?;
    let tokens = body.usage.map_or((0, 0), |usage| (usage.prompt_tokens, usage.completion_tokens));
    let first = body.choices.into_iter().next().and_then(|choice| choice.message.content);
    Ok(Completion { text: first.ok_or_else(|| invalid("no choice with content"))?, tokens })
}

/// Reads the JSON object in `text`; models like to wrap it in words or in a code fence.
pub(super) fn read_json<T: DeserializeOwned>(text: &str) -> Option<T> {
    let object = text.get(text.find('{')?..=text.rfind('}')?)?;
    serde_json::from_str(object).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn answers_are_read() {
        let body = br#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"hi"}}],
            "usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#;
        assert_eq!(read(body).unwrap(), Completion { text: "hi".to_owned(), tokens: (7, 3) });
        let without_usage = br#"{"choices":[{"message":{"content":"hi"}}]}"#;
        assert_eq!(read(without_usage).unwrap().tokens, (0, 0));
        for broken in [&b"<html>"[..], b"{}", b"{\"choices\":[]}", b"{\"choices\":[{\"message\":{}}]}"] {
            assert!(matches!(read(broken), Err(CallError::InvalidAnswer(_))));
        }
    }

    #[test]
    fn json_is_found_in_words() {
        let text = "Sure!\n```json\n{\"offer\": 5}\n```";
        assert_eq!(read_json::<Value>(text).unwrap()["offer"], 5);
        for none in ["", "no", "{", "}{", "{x}"] {
            assert!(read_json::<Value>(none).is_none());
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, text in "\\PC{0,40}") {
            let _ = read(&bytes);
            let _ = read_json::<Value>(&text);
        }
    }
}
