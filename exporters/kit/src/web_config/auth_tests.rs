//! Tests of basic auth: who is let in, and that a guess costs the same whoever it names.

use super::*;
use proptest::prelude::*;

fn encode_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().chain([0, 0].iter()).take(3).fold(0_u32, |word, &b| word << 8 | u32::from(b));
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit) & 63) as usize;
            out.push(if digit <= chunk.len() { DIGITS[index] as char } else { '=' });
        }
    }
    out
}

fn login(user: &str, password: &str) -> HeaderMap {
    let value = format!("Basic {}", encode_base64(format!("{user}:{password}").as_bytes()));
    HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
}

fn users(hashed: &[(&str, &str)], plain: &[(&str, &str)]) -> Users {
    let hashed =
        hashed.iter().map(|(u, p)| ((*u).to_owned(), Secret::from(bcrypt::hash(p, 4).unwrap()))).collect();
    let plain = plain.iter().map(|(u, p)| ((*u).to_owned(), Secret::from((*p).to_owned()))).collect();
    Users::new(&hashed, &plain).unwrap().unwrap()
}

#[tokio::test]
async fn wrong_and_unknown_cost_one_comparison_and_right_costs_one_once() {
    let users = users(&[("prometheus", "scrape")], &[]);
    let cost = async |user: &str, password: &str| {
        let before = users.comparisons();
        let admitted = users.admit(&login(user, password)).await;
        (admitted, users.comparisons() - before)
    };
    assert_eq!(cost("prometheus", "wrong").await, (false, 1));
    assert_eq!(cost("nobody", "wrong").await, (false, 1));
    // The decoy is a real user's hash: its password must open nothing under another name.
    assert_eq!(cost("nobody", "scrape").await, (false, 1));
    assert_eq!(cost("prometheus", "scrape").await, (true, 1));
    assert_eq!(cost("prometheus", "scrape").await, (true, 0));
    assert_eq!(cost("prometheus", "wrong").await, (false, 1));
    assert_eq!(cost("nobody", "scrape").await, (false, 1));
}

#[tokio::test]
async fn the_same_login_at_once_is_compared_once() {
    let users = users(&[("prometheus", "scrape")], &[]);
    let headers = login("prometheus", "scrape");
    let admitted = futures_util::future::join_all((0..8).map(|_| users.admit(&headers))).await;
    assert_eq!(admitted, [true; 8]);
    assert_eq!(users.comparisons(), 1);
}

#[tokio::test]
async fn a_plain_password_needs_no_bcrypt() {
    let users = users(&[], &[("exporter", "p:a ss")]);
    assert!(users.admit(&login("exporter", "p:a ss")).await);
    assert!(!users.admit(&login("exporter", "p")).await);
    assert!(!users.admit(&login("", "p:a ss")).await);
    assert_eq!(users.comparisons(), 0);
}

#[tokio::test]
async fn anything_else_in_the_header_is_refused() {
    let users = users(&[], &[("a", "b")]);
    for value in ["", "Basic", "Basic !!!!", "Basic YQ==", "Bearer YTpi", "Basic YTpi YTpi"] {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        assert!(!users.admit(&headers).await, "{value:?}");
    }
    let headers = HeaderMap::from_iter([(AUTHORIZATION, "bAsIc YTpi".parse().unwrap())]);
    assert!(users.admit(&headers).await);
}

#[test]
fn a_hash_that_is_none_is_named_without_its_text() {
    let hashed = BTreeMap::from([("alice".to_owned(), Secret::from("plain-text".to_owned()))]);
    let message = Users::new(&hashed, &BTreeMap::new()).unwrap_err().to_string();
    assert!(message.contains("\"alice\"") && message.contains("htpasswd"), "{message}");
    assert!(!message.contains("plain-text"), "{message}");
}

#[test]
fn nobody_configured_is_no_authentication() {
    assert!(Users::new(&BTreeMap::new(), &BTreeMap::new()).unwrap().is_none());
}

proptest! {
    #[test]
    fn base64_reads_back(bytes in any::<Vec<u8>>()) {
        prop_assert_eq!(decode_base64(&encode_base64(&bytes)), Some(bytes));
    }

    #[test]
    fn base64_takes_any_text(text in any::<String>()) {
        let _ = decode_base64(&text);
    }
}
