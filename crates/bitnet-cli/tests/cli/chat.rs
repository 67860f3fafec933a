//! `bitnet chat`.

use super::bitnet;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::Stdio;
use tempfile::TempDir;

#[test]
fn chat_answers_lines_and_obeys_commands() {
    let folder = TempDir::new().unwrap();
    let saved = folder.path().join("talk.json");
    let mut child = bitnet(&["chat", "--temp", "0", "-n", "16"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = format!(
        "What is 20 + 22?\n/stats\n/save {}\n/nonsense\n/reset\n/help\n/quit\nnot reached\n",
        saved.display()
    );
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    for said in [
        "2 messages",
        "KV cache",
        "zero-copy share",
        "saved to",
        "no command /nonsense",
        "forgotten",
        "/save FILE",
    ] {
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
    let messages: Value = serde_json::from_str(&fs::read_to_string(saved).unwrap()).unwrap();
    assert_eq!(messages[0]["role"], "user");
    assert_eq!(messages[1]["role"], "assistant");
    let answer = messages[1]["content"].as_str().unwrap();
    assert!(!answer.is_empty() && String::from_utf8(output.stdout).unwrap().contains(answer));
}
