//! Page helpers, and promtool's opinion of a page.

use testkit::page;

const PAGE: &str =
    "# HELP a_total All of it.\n# TYPE a_total counter\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3\n";

#[test]
fn a_value_is_found_by_labels_or_everything_is_shown() {
    let parsed = page::parse(PAGE).unwrap();
    assert_eq!(page::value(&parsed, "a_total", &[("x", "2")]).unwrap(), 3.0);
    let message = format!("{:#}", page::value(&parsed, "a_total", &[]).unwrap_err());
    assert_eq!(message, r#"not exactly one a_total with []; there are 2: [("x", "1")] 2, [("x", "2")] 3"#);
}

#[test]
fn a_bad_line_is_shown() {
    let message = format!("{:#}", page::parse("a{x=1} 2\n").unwrap_err());
    assert!(message.starts_with("line 1: ") && message.ends_with(r#": "a{x=1} 2""#), "{message}");
}

#[tokio::test]
async fn promtool_is_asked() {
    assert_eq!(page::promtool_findings(PAGE).await.unwrap(), [""; 0]);
    let bad = "# HELP a A.\n# TYPE a counter\na 1\n";
    let findings = page::promtool_findings(bad).await.unwrap();
    assert_eq!(findings, [r#"a counter metrics should have "_total" suffix"#]);
    page::promtool_findings("a{ 1\n").await.unwrap_err();
}
