//! `bitnet chat`.

use super::{bitnet, demo_with_template, piped};
use serde_json::Value;
use std::fs;
use std::process::Output;
use tempfile::TempDir;

/// What `bitnet chat` says to `lines` from a pipe.
fn chat(arguments: &[&str], lines: &str) -> Output {
    piped(
        &mut bitnet(&[&["chat", "--temp", "0"], arguments].concat()),
        lines.as_bytes(),
    )
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
fn the_oldest_turns_go_when_the_context_is_full() {
    let question = "What is 20 + 22?\n";
    let alone = texts(chat(&["-c", "48"], question));
    assert_eq!(alone.2, "", "one question fits");
    let folder = TempDir::new().unwrap();
    let saved = folder.path().join("talk.json");
    let lines = format!("{}/save {}\n", question.repeat(5), saved.display());
    let (code, out, err) = texts(chat(&["-c", "48"], &lines));
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out.lines().count(), 5, "{out}");
    let mut dropped = Vec::new();
    for line in err.lines().filter(|line| !line.starts_with("saved to")) {
        let count = line
            .strip_prefix("[the context of 48 tokens is full: the model no longer sees the ")
            .and_then(|rest| rest.split_once(" oldest messages; "))
            .and_then(|(count, _)| count.parse::<usize>().ok());
        dropped.push(count.unwrap_or_else(|| panic!("{line}")));
    }
    assert!(
        !dropped.is_empty() && dropped.is_sorted() && dropped.iter().all(|count| count % 2 == 0),
        "{dropped:?}"
    );
    // Nothing that was said is lost.
    let messages: Value = serde_json::from_str(&fs::read_to_string(saved).unwrap()).unwrap();
    assert_eq!(messages.as_array().map(Vec::len), Some(10));
}

#[test]
fn chat_answers_lines_and_obeys_commands() {
    let folder = TempDir::new().unwrap();
    let saved = folder.path().join("talk.json");
    let lines = format!(
        "What is 20 + 22?\n/stats\n/save {}\n/nonsense\n/reset\n/help\n/quit\nnot reached\n",
        saved.display()
    );
    let output = chat(&["-n", "16"], &lines);
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

#[test]
fn a_template_and_its_variables_can_be_given() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("plain.jinja");
    let source = "{{ 'User: ' ~ messages[-1].content ~ (extra or '') ~ '<|eot_id|>Assistant: ' }}";
    fs::write(&file, source).unwrap();
    let file = file.to_str().unwrap();
    let question = "What is 20 + 22?\n";
    // The model's own does not compile, and names the file and the key.
    let broken = demo_with_template("{% block a %}{% endblock %}");
    let (code, _, err) = texts(chat(&["-m", broken.path()], question));
    assert_eq!(code, Some(1), "{err}");
    let named = ["tokenizer.chat_template", "--chat-template"];
    assert!(named.iter().all(|text| err.contains(text)), "{err}");

    let given = ["-m", broken.path(), "--chat-template", file];
    let (code, out, err) = texts(chat(&given, question));
    assert_eq!((code, out.trim()), (Some(0), "20 + 22 = 42."), "{err}");

    // A variable reaches the template: the question is longer by it, and does not fit.
    let long = format!("extra=\"{}\"", " again".repeat(400));
    let varied = [&given[..], &["-c", "300", "--template-arg", &long]].concat();
    let (code, _, err) = texts(chat(&varied, question));
    assert!(code == Some(1) && err.contains("context"), "{code:?} {err}");

    // So does the one with an option of its own.
    let thinks = demo_with_template(
        "{% if enable_thinking is false %}{{ raise_exception('told not to think') }}{% endif %}",
    );
    let told = ["-m", thinks.path(), "--thinking", "off"];
    let (code, _, err) = texts(chat(&told, question));
    assert!(
        code == Some(1) && err.contains("told not to think"),
        "{err}"
    );
}

#[test]
fn wrong_templates_and_variables_are_refused() {
    let (code, _, err) = texts(chat(&["--chat-template", "rag"], "hello\n"));
    assert!(code == Some(2) && err.contains("\"rag\""), "{code:?} {err}");
    let (code, _, err) = texts(chat(&["--chat-template", "./none.jinja"], "hello\n"));
    assert!(
        code == Some(1) && err.contains("none.jinja"),
        "{code:?} {err}"
    );
    for variable in ["[]", "=1", "a=b", "messages=[]", "tools=[]"] {
        let (code, _, err) = texts(chat(&["--template-arg", variable], "hello\n"));
        let named = variable.split('=').next().unwrap();
        assert!(code == Some(2) && err.contains(named), "{code:?} {err}");
    }
    let twice = [
        "--thinking",
        "on",
        "--template-arg",
        "enable_thinking=false",
    ];
    assert_eq!(chat(&twice, "hello\n").status.code(), Some(2));
}

/// A folder with a template that knows of tools and thinking, and a file of tools.
fn folder_of_tools() -> (TempDir, String, String) {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let template = write(
        "tools.jinja",
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}\n{% endfor %}\
         {{ tools | tojson if tools }}{# <tool_call> #}Assistant: \
         {% if enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}",
    );
    let tools = write(
        "tools.json",
        r#"[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "required": ["days"],
            "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 9}}, "additionalProperties": false}}}]"#,
    );
    (folder, template, tools)
}

#[test]
fn tools_are_called_and_their_results_are_the_next_lines() {
    let (folder, template, tools) = folder_of_tools();
    let saved = folder.path().join("talk.json");
    let given = ["--chat-template", &template, "--tools", &tools, "-n", "100"];
    let called = [&given[..], &["--tool-choice", "weather", "--seed", "1"]].concat();
    // After a result the model is free to answer, here by a number.
    let lines = format!("How will it be?\nsunny\n/save {}\n", saved.display());
    let (code, out, err) = texts(chat(
        &[&called[..], &["--regex", "[0-9]{2}"]].concat(),
        &lines,
    ));
    assert_eq!(code, Some(0), "{err}");
    let mut printed = out.lines();
    let call: Value = serde_json::from_str(printed.next().unwrap()).unwrap();
    assert_eq!(call["name"], "weather");
    assert!(
        (1..=9).contains(&call["arguments"]["days"].as_i64().unwrap()),
        "{call}"
    );
    let messages: Value = serde_json::from_str(&fs::read_to_string(saved).unwrap()).unwrap();
    let roles: Vec<_> = messages
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["role"])
        .collect();
    assert_eq!(
        roles,
        ["user", "assistant", "tool", "assistant"],
        "{messages}"
    );
    assert_eq!(messages[1]["tool_calls"][0]["function"], call);
    assert_eq!(
        messages[1]["tool_calls"][0]["id"],
        messages[2]["tool_call_id"]
    );

    let unknown = [&given[..], &["--tool-choice", "fly"]].concat();
    let (code, _, err) = texts(chat(&unknown, "hello\n"));
    assert!(code == Some(2) && err.contains("fly"), "{code:?} {err}");
    let (code, _, err) = texts(chat(&["--tool-choice", "required"], "hello\n"));
    assert!(code == Some(2) && err.contains("--tools"), "{code:?} {err}");
    // The model's own template knows nothing of tools.
    let (code, _, err) = texts(chat(&["--tools", &tools], "hello\n"));
    assert!(
        code == Some(1) && err.contains("knows nothing of tools"),
        "{code:?} {err}"
    );
}

#[test]
fn thinking_is_apart_from_the_answer_and_can_be_folded() {
    let (_folder, template, _) = folder_of_tools();
    let ask = |more: &[&str]| {
        let given = ["--chat-template", &template, "--regex", "[a-z]{3}"];
        let (code, out, err) = texts(chat(&[&given, more].concat(), "Who are you?\n/thinking\n"));
        assert_eq!(code, Some(0), "{err}");
        (out, err)
    };
    let thinks = ["--thinking", "on", "--thinking-budget", "6"];
    let (shown, said) = ask(&thinks);
    let (thought, answer) = shown
        .strip_prefix("<think>")
        .unwrap()
        .split_once("</think>\n")
        .unwrap();
    assert_eq!(said.trim(), thought.trim());
    assert_eq!(answer.trim().len(), 3, "{shown}");
    let (folded, said) = ask(&[&thinks[..], &["--hide-thinking"]].concat());
    assert_eq!((folded.as_str(), said.trim()), (answer, thought.trim()));
    let (plain, said) = ask(&["--thinking", "off"]);
    assert_eq!((plain.trim().len(), said.trim()), (3, ""), "{plain}");
}
