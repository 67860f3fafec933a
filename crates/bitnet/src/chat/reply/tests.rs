use super::*;
use proptest::prelude::*;
use serde_json::json;

fn tools() -> Vec<Tool> {
    let parameters = json!({"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "zip": {"type": "string"}}});
    ["weather", "time"]
        .map(|name| Tool {
            name: name.into(),
            parameters: Some(parameters.clone()),
            strict: false,
        })
        .into()
}

fn options(format: CallFormat) -> ReplyOptions {
    ReplyOptions {
        thinks: true,
        begins_thinking: false,
        tools: Some((format, tools())),
    }
}

/// Thinking, text and calls of a whole reply; pieces that follow each other are put together.
fn parse(options: ReplyOptions, pieces: &[&str]) -> (String, String, Vec<ToolCall>) {
    let mut parser = ReplyParser::new(options);
    let mut parts: Vec<_> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    parts.extend(parser.finish());
    let (mut thinking, mut text, mut calls) = (String::new(), String::new(), Vec::new());
    for part in parts {
        match part {
            ReplyPart::Thinking(more) => thinking += &more,
            ReplyPart::Text(more) => text += &more,
            ReplyPart::Call(call) => calls.push(call),
        }
    }
    (thinking, text, calls)
}

#[test]
fn without_calls_they_stay_in_the_text() {
    let reply = "<think>Hm</think>{\"name\": \"time\", \"parameters\": {}}";
    let mut parser = ReplyParser::without_calls(options(CallFormat::Json));
    let mut parts = parser.push(reply);
    parts.extend(parser.finish());
    let text = reply.trim_start_matches("<think>Hm</think>");
    let expected = [
        ReplyPart::Thinking("Hm".into()),
        ReplyPart::Text(text.into()),
    ];
    assert_eq!(parts, expected);
}

fn call(name: &str, arguments: Value) -> ToolCall {
    let Value::Object(arguments) = arguments else {
        panic!("no object");
    };
    ToolCall {
        name: name.into(),
        arguments,
    }
}

#[test]
fn thinking_is_apart_from_the_answer() {
    let parsed = parse(
        options(CallFormat::Hermes),
        &["\n<thi", "nk>Hm.</th", "ink>\n\nYes <b>."],
    );
    assert_eq!(parsed, ("Hm.".into(), "Yes <b>.".into(), vec![]));
    let begun = ReplyOptions {
        begins_thinking: true,
        ..options(CallFormat::Hermes)
    };
    let parsed = parse(begun.clone(), &["Hm.</think>Yes"]);
    assert_eq!(parsed, ("Hm.".into(), "Yes".into(), vec![]));
    let parsed = parse(begun, &["Hm. </thi"]);
    assert_eq!(parsed, ("Hm. </thi".into(), String::new(), vec![]));
    let plain = parse(ReplyOptions::default(), &["<think>a</think>"]);
    assert_eq!(plain.1, "<think>a</think>");
}

#[test]
fn calls_are_read_in_every_form() {
    let expected = call("weather", json!({"city": "Paris", "days": 2}));
    let hermes =
        r#"<tool_call>{"name": "weather", "arguments": {"city": "Paris", "days": 2}}</tool_call>"#;
    let xml = "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n2\n</parameter>\n\
               </function>\n</tool_call>";
    let llama = r#"{"name": "weather", "parameters": {"city": "Paris", "days": 2}}"#;
    let pythonic = "[weather(city='Paris', days=2)]";
    for (format, text) in [
        (CallFormat::Hermes, hermes),
        (CallFormat::Xml, xml),
        (CallFormat::Json, llama),
        (CallFormat::Pythonic, pythonic),
    ] {
        let parsed = parse(options(format), &[text]);
        assert_eq!(
            parsed,
            (String::new(), String::new(), vec![expected.clone()])
        );
    }
    let two = format!("Both.\n{hermes}\n{hermes}");
    let parsed = parse(options(CallFormat::Hermes), &[&two]);
    assert_eq!(parsed.1, "Both.\n");
    assert_eq!(parsed.2.len(), 2);
    let two = parse(
        options(CallFormat::Pythonic),
        &["[time(), weather(city=\"a'b\", days=[1, {'x': None}])]"],
    );
    let second = call("weather", json!({"city": "a'b", "days": [1, {"x": null}]}));
    assert_eq!(two.2, [call("time", json!({})), second]);
}

#[test]
fn python_may_write_as_json_does() {
    let text = r#"[time(a=true, b=[null, "\u00e9\ud83d\ude00\b"])]"#;
    let expected = call("time", json!({"a": true, "b": [null, "é😀\u{8}"]}));
    let parsed = parse(options(CallFormat::Pythonic), &[text]);
    assert_eq!(parsed.2, [expected]);
    let half = parse(options(CallFormat::Pythonic), &[r#"[time(a="\ud83d")]"#]);
    assert!(half.2.is_empty());
}

#[test]
fn strings_of_the_xml_form_stay_strings_where_the_schema_says_so() {
    let text =
        "<tool_call><function=weather><parameter=zip>01234</parameter></function></tool_call>";
    let parsed = parse(options(CallFormat::Xml), &[text]);
    assert_eq!(parsed.2, [call("weather", json!({"zip": "01234"}))]);
}

#[test]
fn what_is_nearly_a_call_is_text() {
    for (format, text) in [
        (
            CallFormat::Hermes,
            r#"<tool_call>{"name": "weather", "arguments": {"city": "Paris",}}</tool_call>"#,
        ),
        (
            CallFormat::Hermes,
            r#"<tool_call>{"name": "format_disk", "arguments": {}}</tool_call>"#,
        ),
        (
            CallFormat::Hermes,
            r#"<tool_call>{"name": "weather", "arguments": 5}</tool_call>"#,
        ),
        (CallFormat::Hermes, "<tool_call>weather"),
        (
            CallFormat::Json,
            r#"{"name": "weather", "parameters": {}} and more"#,
        ),
        (CallFormat::Json, r#"{"city": "Paris"}"#),
        (CallFormat::Pythonic, "[1, 2, 3]"),
        (CallFormat::Pythonic, "[weather(city=Paris)]"),
        (CallFormat::Pythonic, "[weather(city='a', city='b')]"),
        (
            CallFormat::Xml,
            "<tool_call><function=weather><parameter=city>a</tool_call>",
        ),
    ] {
        let parsed = parse(options(format), &[text]);
        assert_eq!(parsed, (String::new(), text.into(), vec![]), "{format:?}");
    }
}

proptest! {
    /// However a reply is cut into pieces, its parts are the same; and without tools and thinking nothing is lost.
    #[test]
    fn pieces_do_not_matter(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "<think>", "</think>", "<tool_call>", "</tool_call>", "{\"name\": \"time\"}", " ", "\n", "a", "<", "[time()]",
                "<function=time>", "</function>", "é",
            ]),
            0..12,
        ),
        format in prop::sample::select(vec![
            CallFormat::Hermes, CallFormat::Xml, CallFormat::Json, CallFormat::Pythonic,
        ]),
    ) {
        let text = words.concat();
        let chars: Vec<String> = text.chars().map(String::from).collect();
        let chars: Vec<&str> = chars.iter().map(String::as_str).collect();
        prop_assert_eq!(parse(options(format), &[&text]), parse(options(format), &chars));
        prop_assert_eq!(parse(ReplyOptions::default(), &chars).1, text);
    }

    /// Nothing that a model may write brings the parser down.
    #[test]
    fn any_text_is_taken(text in "[\\[\\](){}'\"=,:a-z0-9<>/\\\\ \n]{0,60}") {
        for format in [CallFormat::Json, CallFormat::Pythonic, CallFormat::Hermes, CallFormat::Xml] {
            parse(options(format), &[&text]);
            let tools = tools();
            calls::whole(format, &text, &tools);
            calls::marked(format, &text, &tools);
        }
    }
}
