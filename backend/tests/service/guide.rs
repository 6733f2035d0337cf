//! The API guide: every command of it runs, and answers what the guide says.

use std::process::{Command, Stdio};

use crate::stack::Stack;

/// A command and the lines that it is said to answer.
type Example = (String, Vec<String>);

/// The commands of all `console` blocks: a line that begins with `$ `, with those that its backslash or an open quote
/// continues, which are indented.
fn examples(guide: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut inside = false;
    for line in guide.lines() {
        match (line, inside) {
            ("```console", _) => inside = true,
            ("```", _) => inside = false,
            (_, false) => {}
            (line, true) => {
                if let Some(command) = line.strip_prefix("$ ") {
                    examples.push((command.to_owned(), Vec::new()));
                } else if let Some((command, answers)) = examples.last_mut() {
                    if line.starts_with("    ") {
                        command.push('\n');
                        command.push_str(line);
                    } else {
                        answers.push(line.to_owned());
                    }
                }
            }
        }
    }
    examples
}

#[tokio::test]
async fn every_command_of_the_guide_answers_what_it_says() {
    let stack = Stack::start().await;
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let examples = examples(&std::fs::read_to_string(path).unwrap());
    assert!(examples.len() > 20, "{}", examples.len());
    // One shell, so that later commands know the variables of earlier ones.
    let end = "--- end of this answer ---";
    let script: String =
        examples.iter().map(|(command, _)| format!("{command}\nprintf '\\n{end}\\n'\n")).collect();
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &script]).env("BACKEND", &stack.url).env("no_proxy", "*");
    // The service runs on this thread.
    let output =
        tokio::task::spawn_blocking(move || bash.stdin(Stdio::null()).output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for ((command, promised), answer) in examples.iter().zip(said.split(end)) {
        for line in promised {
            let mut rest = answer;
            for part in line.split('…') {
                let found =
                    rest.find(part).unwrap_or_else(|| panic!("{command}\nanswers\n{answer}\nwithout {part}"));
                rest = &rest[found + part.len()..];
            }
        }
    }
}
