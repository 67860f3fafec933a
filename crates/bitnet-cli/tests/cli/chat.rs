//! `bitnet chat`.

use super::{bitnet, demo_with_template};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};
use tempfile::TempDir;

/// What `bitnet chat` says to `lines` from a pipe.
fn chat(arguments: &[&str], lines: &str) -> Output {
    let mut child = bitnet(&[&["chat", "--temp", "0"], arguments].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn texts(output: Output) -> (Option<i32>, String, String) {
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_question_from_a_pipe_without_an_answer_is_a_failure() {
    let model = demo_with_template("{{ raise_exception('not \x1b[2Jthat') }}");
    let (code, out, err) = texts(chat(&["-m", model.path()], "hello\nhello\n"));
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("not \\x1b[2Jthat"), "{err:?}");
    // Nobody can press another key: the first failure ends it.
    assert_eq!(err.lines().count(), 1, "{err}");

    let question = "hello there my friend, how are you today\n";
    for (context, advice) in [("8", "-c (--context)"), ("19", "-c (--context)")] {
        let (code, out, err) = texts(chat(&["-c", context], question));
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(
            err.contains(advice) && err.contains("own length is 1024") && !err.contains("/reset"),
            "{err}"
        );
    }
    // Nothing was asked.
    assert_eq!(chat(&[], "\n").status.code(), Some(0));
}

#[test]
fn a_last_line_that_ends_in_a_backslash_is_answered() {
    for lines in ["What is 20 + 22?\\", "What is\\\n20 + 22?\\\n"] {
        let (code, out, err) = texts(chat(&[], lines));
        assert_eq!(code, Some(0), "{err}");
        assert!(!out.trim().is_empty(), "{lines:?}");
    }
    let whole = texts(chat(&[], "What is 20 + 22?\n"));
    assert_eq!(texts(chat(&[], "What is 20 + 22?\\")), whole);
}

#[test]
fn a_truncated_answer_says_so() {
    let question = "What is 20 + 22?\n";
    let (code, _, err) = texts(chat(&[], question));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let (code, out, err) = texts(chat(&["-n", "2"], question));
    assert_eq!(code, Some(0));
    assert!(!out.trim().is_empty());
    assert_eq!(err, "[truncated after 2 tokens; -n allows more]\n");
    let (code, out, err) = texts(chat(&["-c", "18"], question));
    assert_eq!(code, Some(0), "{err}");
    assert!(!out.trim().is_empty());
    assert!(
        err.starts_with("[truncated: the context of 18 tokens is full;")
            && err.contains("--context"),
        "{err}"
    );
}

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
