//! The command as a user meets it: what it prints, on which stream, and with which exit code.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// The command with a cache of its own and without what the environment may say.
fn bitnet(arguments: &[&str]) -> Command {
    static CACHE: OnceLock<TempDir> = OnceLock::new();
    let cache = CACHE.get_or_init(|| TempDir::new().unwrap()).path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet"));
    command
        .args(arguments)
        .env("HOME", cache)
        .env("XDG_CACHE_HOME", cache)
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("BITNET_ISA")
        .env_remove("BITNET_LOG")
        .env_remove("HF_HOME")
        .env_remove("HF_ENDPOINT")
        .stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    bitnet(arguments).output().unwrap()
}

/// Stdout of a run that must succeed.
fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(
        output.status.success(),
        "bitnet {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(arguments)).unwrap()
}

/// The one line on stderr of a run that must fail with `code`.
fn failure(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "bitnet {}: {stderr}",
        arguments.join(" ")
    );
    stderr
}

/// A tiny synthetic model, made by the command once.
fn tiny() -> &'static str {
    static MODEL: OnceLock<(TempDir, String)> = OnceLock::new();
    let (_, path) = MODEL.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("tiny.gguf").to_str().unwrap().to_owned();
        stdout(&[
            "synth", "--shape", "tiny", "--type", "i2_s", "--seed", "7", &path,
        ]);
        (folder, path)
    });
    path
}

const COMMANDS: [&str; 10] = [
    "run",
    "chat",
    "inspect",
    "tokenize",
    "perplexity",
    "logits",
    "synth",
    "bench",
    "convert",
    "devices",
];

#[test]
fn help_has_examples() {
    let help = stdout(&["--help"]);
    assert!(
        help.contains("Examples:") && help.contains("Exit codes:"),
        "{help}"
    );
    for command in COMMANDS {
        assert!(help.contains(command), "{command} is not in the list");
        let help = stdout(&[command, "--help"]);
        assert!(
            help.contains("Examples:") && help.contains(&format!("bitnet {command}")),
            "{help}"
        );
    }
}

#[test]
fn wrong_usage_is_2() {
    failure(&["run", "--no-such-option"], 2);
    failure(&["run", "--temp", "hot"], 2);
    failure(&["run", "--device", "toaster"], 2);
    failure(&["synth", "--shape", "huge", "x.gguf"], 2);
    failure(&["logits"], 2);
    failure(&["bench", "-p", "0", "-n", "0"], 2);
    failure(&["run", "-m", tiny(), "--temp", "-1", "x"], 2);
}

#[test]
fn failures_are_one_line_on_stderr() {
    let line = failure(&["run", "-m", "no/such/file.gguf", "x"], 1);
    assert!(line.starts_with("error: no/such/file.gguf: "), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");

    let folder = TempDir::new().unwrap();
    let path = folder.path().join("cut.gguf");
    let whole = fs::read(tiny()).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let line = failure(&["inspect", path.to_str().unwrap()], 1);
    assert!(
        line.contains("cut.gguf") && line.contains("expected"),
        "{line}"
    );

    // Offline, a name that would be downloaded is refused and nothing is asked.
    let line = failure(&["run", "-m", "2b4t", "x"], 1);
    assert!(line.contains("not in the cache"), "{line}");

    let output = bitnet(&["devices"])
        .env("BITNET_ISA", "abacus")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("abacus"));
}

#[test]
fn devices_say_what_is_used() {
    let report = json(&["devices", "--json"]);
    assert_eq!(report["backend_in_use"], "cpu");
    let kernels = report["kernels"].as_array().unwrap();
    let in_use: Vec<_> = kernels
        .iter()
        .filter(|kernels| kernels["in_use"] == true)
        .collect();
    assert_eq!(in_use.len(), 1);
    assert_eq!(in_use[0]["name"], report["kernels_in_use"]);
    assert!(stdout(&["devices"]).contains("in use"));
    let scalar = bitnet(&["devices", "--json"])
        .env("BITNET_ISA", "scalar")
        .output()
        .unwrap();
    let scalar: Value = serde_json::from_slice(&scalar.stdout).unwrap();
    assert_eq!(scalar["kernels_in_use"], "scalar");

    assert!(report["processor"]["threads"].as_u64().unwrap() >= 1);
    assert!(report["memory"]["total"].as_u64().unwrap() > 0);
    let backends = report["backends"].as_array().unwrap();
    let found = |name: &str| {
        let backend = backends.iter().find(|backend| backend["name"] == name);
        backend.unwrap()["found"] == true
    };
    assert!(found("cpu") && !found("metal"));
    let refused = failure(&["run", "--device", "metal", "x"], 2);
    assert!(refused.contains("not built into this binary") && refused.contains("auto, cpu"));
}

/// `bitnet devices …` with `cache` as the user's cache folder.
fn devices(cache: &Path, arguments: &[&str]) -> (String, String) {
    let output = bitnet(&["devices"])
        .args(arguments)
        .env("XDG_CACHE_HOME", cache)
        .env("HOME", cache)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn a_calibration_is_kept_used_and_explained() {
    let folder = TempDir::new().unwrap();
    let (explained, _) = devices(folder.path(), &["--explain"]);
    assert!(
        explained.contains("built in (there is no file"),
        "{explained}"
    );

    let (shown, _) = devices(folder.path(), &["--calibrate"]);
    assert!(
        shown.contains("ternary_matmul") && shown.contains("I2_S"),
        "{shown}"
    );
    let path = shown.trim_end().rsplit("kept in ").next().unwrap();
    let kept = fs::read_to_string(path).unwrap();
    assert!(Path::new(path).starts_with(folder.path()), "{path}");

    let (explained, warnings) = devices(folder.path(), &["--explain"]);
    assert!(warnings.is_empty(), "{warnings}");
    assert!(explained.contains(path), "{explained}");
    for expected in [
        "ternary_matmul",
        "attention",
        "measured at",
        "µs",
        "multiply-adds",
    ] {
        assert!(explained.contains(expected), "{expected}: {explained}");
    }
    let (report, _) = devices(folder.path(), &["--explain", "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["routing"]["source"], "measured");
    assert_eq!(report["routing"]["file"], path);
    for route in report["routes"].as_array().unwrap() {
        assert_eq!(route["route"]["device"], "cpu");
        assert!(
            !route["route"]["because"]["threads"]
                .as_str()
                .unwrap()
                .is_empty()
        );
    }

    // A file that is damaged is warned of and passed over, and measuring anew mends it.
    fs::write(path, &kept[..kept.len() / 2]).unwrap();
    let (explained, warnings) = devices(folder.path(), &["--explain"]);
    assert!(
        explained.contains("built in") && warnings.contains(path),
        "{warnings}"
    );
    let output = bitnet(&["run", "Once", "-n", "2"])
        .env("XDG_CACHE_HOME", folder.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    let (measured, _) = devices(folder.path(), &["--calibrate", "--json"]);
    let measured: Value = serde_json::from_str(&measured).unwrap();
    let kept: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(measured, kept);
}

#[test]
fn inspect_counts() {
    let report = json(&["inspect", tiny(), "--json"]);
    assert_eq!(report["architecture"]["name"], "bitnet-b1.58");
    assert_eq!(report["architecture"]["layers"], 2);
    let share = report["ternary"]["zero_share"].as_f64().unwrap();
    assert!((0.35..0.45).contains(&share), "{share}");
    let bits = report["ternary"]["bits_per_weight"].as_f64().unwrap();
    assert!((2.0..2.01).contains(&bits), "{bits}");
    let types = report["types"].as_array().unwrap();
    let sum: u64 = types
        .iter()
        .map(|kind| kind["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, report["bytes"].as_u64().unwrap());
    let memory = |key: &str| report["memory"][key].as_u64().unwrap();
    let shape = |key: &str| report["architecture"][key].as_u64().unwrap();
    assert_eq!(
        memory("kv_bytes_per_token"),
        2 * 4 * shape("layers") * shape("kv_heads") * shape("head_dim")
    );
    assert_eq!(
        memory("kv_bytes"),
        memory("kv_bytes_per_token") * memory("context")
    );
    assert!(stdout(&["inspect", "-m", tiny()]).contains("I2_S"));
    assert!(stdout(&["inspect"]).starts_with("demo model\n"));
}

#[test]
fn convert_says_what_it_kept() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let said = stdout(&["convert", tiny(), &path("packed"), "--type", "safetensors"]);
    assert!(said.contains("Lossless"), "{said}");
    let said = stdout(&[
        "convert",
        &path("packed"),
        &path("back.gguf"),
        "--type",
        "i2_s",
    ]);
    assert!(said.contains("Lossless"), "{said}");
    let digest = |model: &str| stdout(&["logits", "-m", model, "--tokens", "1,2,3", "--digest"]);
    assert_eq!(digest(&path("back.gguf")), digest(tiny()));
    assert_eq!(digest(&path("packed")), digest(tiny()));
    let said = stdout(&["convert", tiny(), &path("tq2.gguf"), "--type", "tq2_0"]);
    assert!(said.contains("Lossless"), "{said}");
    failure(&["convert", tiny(), &path("x.gguf"), "--type", "q4_k"], 2);
}

#[test]
fn tokens_spell_the_text() {
    let text = "Hello, wörld!";
    let report = json(&["tokenize", "-m", tiny(), text, "--no-bos", "--json"]);
    let ids = report["ids"].as_array().unwrap();
    assert_eq!(ids.len(), report["pieces"].as_array().unwrap().len());
    assert!(!ids.is_empty());
    // How the model would run is no question here.
    failure(&["tokenize", "-m", tiny(), text, "--device", "cpu"], 2);
    assert_eq!(
        stdout(&["tokenize", "-m", tiny(), text, "--no-bos"])
            .lines()
            .count(),
        ids.len()
    );
}

#[test]
fn logits_do_not_depend_on_threads_or_batches() {
    let base = [
        "logits",
        "-m",
        tiny(),
        "--tokens",
        "1,2,3,4,5,6,7",
        "--digest",
    ];
    let digest = |more: &[&str]| stdout(&[&base[..], more].concat());
    let expected = digest(&["-t", "1"]);
    assert_eq!(expected.trim().len(), 64);
    for more in [["-t", "2"], ["--batch", "1"], ["--batch", "3"]] {
        assert_eq!(digest(&more), expected, "{more:?}");
    }
    let scalar = bitnet(&base).env("BITNET_ISA", "scalar").output().unwrap();
    assert_eq!(String::from_utf8(scalar.stdout).unwrap(), expected);
    assert_ne!(digest(&["--activations", "f32"]), expected);

    let report = json(&["logits", "-m", tiny(), "--tokens", "1,2,3", "--json"]);
    let rows = report["logits"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    let width = rows[0].as_array().unwrap().len();
    assert!(
        rows.iter()
            .all(|row| row.as_array().unwrap().len() == width && width >= 256)
    );
    let plain = stdout(&["logits", "-m", tiny(), "--tokens", "1,2,3"]);
    let first: Vec<f32> = plain
        .lines()
        .next()
        .unwrap()
        .split(' ')
        .map(|v| v.parse().unwrap())
        .collect();
    assert_eq!(first[0], rows[0][0].as_f64().unwrap() as f32);

    let line = failure(&["logits", "-m", tiny(), "--tokens", "4000000000"], 2);
    assert!(line.contains("4000000000"), "{line}");
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let run_json = |seed: &str, threads: &str| {
        json(&[
            "run",
            "-m",
            tiny(),
            "abc",
            "-n",
            "20",
            "--seed",
            seed,
            "-t",
            threads,
            "--json",
        ])
    };
    let report = run_json("5", "1");
    assert_eq!(report["text"], run_json("5", "2")["text"]);
    assert_ne!(report["text"], run_json("6", "1")["text"]);
    assert_eq!(report["seed"], 5);
    assert_eq!(report["prompt"], "abc");

    let output = run(&["run", "-m", tiny(), "abc", "-n", "20", "--seed", "5"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed,
        format!("abc{}\n", report["text"].as_str().unwrap())
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("tok/s") && stderr.contains("seed 5"),
        "{stderr}"
    );
    assert!(
        !stderr.contains('\x1b'),
        "colour belongs on a terminal only"
    );
}

#[test]
fn the_prompt_may_come_from_stdin() {
    let mut child = bitnet(&["run", "-m", tiny(), "-", "-n", "3", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"from a pipe")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["prompt"], "from a pipe");
}

#[test]
fn perplexity_of_a_random_model_is_about_its_vocabulary() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("text.txt");
    fs::write(
        &path,
        "The quick brown fox jumps over the lazy dog. ".repeat(20),
    )
    .unwrap();
    let path = path.to_str().unwrap();
    let report = json(&[
        "perplexity",
        "-m",
        tiny(),
        "-f",
        path,
        "--window",
        "64",
        "--json",
    ]);
    let perplexity = report["perplexity"].as_f64().unwrap();
    assert!(perplexity > 50.0 && perplexity.is_finite(), "{perplexity}");
    assert!(stdout(&["perplexity", "-m", tiny(), "-f", path]).starts_with("perplexity "));
}

#[test]
fn bench_reports_every_test() {
    fn bench(options: &str) -> Vec<&str> {
        let options = options.split(' ');
        ["bench", "-m", tiny()].into_iter().chain(options).collect()
    }
    let report = json(&bench("-p 8 -n 4 -t 1,2 -r 2 --json"));
    let results = report["results"].as_array().unwrap();
    let tests: Vec<_> = results
        .iter()
        .map(|result| {
            (
                result["test"].as_str().unwrap(),
                result["threads"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(tests, [("pp8", 1), ("tg4", 1), ("pp8", 2), ("tg4", 2)]);
    assert!(
        results
            .iter()
            .all(|result| result["samples"].as_array().unwrap().len() == 2)
    );
    let (weights, per_token) = (&report["weight_bytes"], &report["bytes_per_token"]);
    assert!(per_token.as_u64().unwrap() > weights.as_u64().unwrap());
    let table = stdout(&bench("-p 8,0,3 -n 0 -t 1 -r 1 --no-warmup"));
    assert!(
        table.contains("| pp8 |") && table.contains("| pp3 |"),
        "{table}"
    );
    assert!(!table.contains("| pp0 |"), "{table}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut child = bitnet(&[
        "logits",
        "-m",
        tiny(),
        "--tokens",
        "1,2,3,4,5,6,7,8",
        "--json",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
}

/// Sends `bytes` to whoever asks, from where they ask, but only `piece` bytes for a connection, with a pause after each
/// kilobyte; to a HEAD as a Hugging Face hub does. Returns the server's address.
fn serve(bytes: Vec<u8>, piece: usize, pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut start, mut head_only) = (0, false);
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let line = line.unwrap().to_ascii_lowercase();
                if let Some(range) = line.strip_prefix("range: bytes=") {
                    start = range.trim_end_matches('-').parse().unwrap();
                }
                head_only |= line.starts_with("head ");
                if line.is_empty() {
                    break;
                }
            }
            let head = format!(
                "HTTP/1.1 206 x\r\nX-Repo-Commit: abc\r\nETag: \"1\"\r\nContent-Range: bytes {start}-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                bytes.len() - 1,
                bytes.len(),
                bytes.len() - start
            );
            let end = (start + piece).min(bytes.len());
            let _ = stream.write_all(head.as_bytes());
            if head_only {
                continue;
            }
            for chunk in bytes[start..end].chunks(1024) {
                if stream.write_all(chunk).is_err() {
                    break;
                }
                thread::sleep(pause);
            }
        }
    });
    address
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .unwrap()
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn a_model_behind_an_address_is_downloaded_once() {
    let bytes = fs::read(tiny()).unwrap();
    let address = serve(bytes.clone(), bytes.len() / 3, Duration::ZERO) + "/tiny.gguf";
    let cache = TempDir::new().unwrap();
    let inspect = |offline: &str| {
        bitnet(&["inspect", &address, "--json"])
            .env("HOME", cache.path())
            .env("XDG_CACHE_HOME", cache.path())
            .env("HF_HUB_OFFLINE", offline)
            .output()
            .unwrap()
    };
    let output = inspect("0");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("downloading tiny.gguf"));
    let found = files_below(cache.path());
    let model = found
        .iter()
        .find(|path| path.ends_with("tiny.gguf"))
        .unwrap();
    assert_eq!(fs::read(model).unwrap(), bytes);
    let again = inspect("1");
    assert!(again.status.success());
    assert_eq!(again.stdout, output.stdout);
    assert!(again.stderr.is_empty());
}

#[test]
fn the_variables_of_hugging_face_are_respected() {
    let bytes = fs::read(tiny()).unwrap();
    let endpoint = serve(bytes.clone(), bytes.len() / 2, Duration::ZERO);
    let home = TempDir::new().unwrap();
    let output = bitnet(&["inspect", "hf:owner/repo/tiny.gguf", "--json"])
        .env("HF_ENDPOINT", endpoint + "/")
        .env("HF_HOME", home.path())
        .env("HF_HUB_OFFLINE", "0")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let snapshot = home
        .path()
        .join("hub/models--owner--repo/snapshots/abc/tiny.gguf");
    assert_eq!(fs::read(snapshot).unwrap(), bytes);
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_a_download_in_good_order() {
    let address = serve(vec![0; 1 << 20], 1 << 20, Duration::from_millis(20)) + "/tiny.gguf";
    let cache = TempDir::new().unwrap();
    let mut child = bitnet(&["run", "-m", &address, "x"])
        .env("HOME", cache.path())
        .env("XDG_CACHE_HOME", cache.path())
        .env("HF_HUB_OFFLINE", "0")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("downloading"), "{line}");
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    line.clear();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "error: cancelled");
    assert!(
        files_below(cache.path())
            .iter()
            .any(|path| path.ends_with("tiny.gguf.incomplete"))
    );
}

#[test]
fn the_demo_model_needs_nothing() {
    let output = run(&["run", "-n", "24", "--temp", "0"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8(output.stdout).unwrap().len() > 40);
    let alone = run(&[]);
    assert!(alone.status.success());
    assert!(alone.stdout.len() > 80);
    // The story is told to its end, unless it is told how long to be.
    let report = json(&["run", "--json", "--seed", "15"]);
    assert_eq!(report["stop"], "end");
    assert!(report["generated_tokens"].as_u64().unwrap() > 128);
    let report = json(&[
        "run",
        "Once upon a time",
        "--ignore-end",
        "--json",
        "-t",
        "1",
    ]);
    assert_eq!(report["generated_tokens"], 128);
}

#[test]
fn stats_tell_where_memory_went() {
    let output = run(&["run", "-n", "4", "--temp", "0", "--stats"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    for part in [
        "activations",
        "scratch",
        "KV cache",
        "peak",
        "zero-copy share",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let output = run(&["run", "-n", "4", "--temp", "0", "--stats", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let memory = &report["memory"];
    assert!(memory["peak_bytes"].as_u64() >= memory["in_use_bytes"].as_u64());
    assert!(memory["zero_copy"]["share_of_bytes"].as_f64().unwrap() > 0.5);
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
