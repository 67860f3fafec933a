//! `bitnet serve` under users that behave badly, for as long as `BITNET_SOAK_SECONDS` says: requests of random lengths, clients
//! that leave, bodies that are no requests, slow readers, a kill and a new start.
//!
//! Every text that is answered whole must be the text of the same request alone, every request must be answered once, and
//! after all of them the process holds the memory it held before.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Users at once.
const USERS: usize = 16;
/// Different requests, whose texts alone are known.
const REQUESTS: usize = 48;
/// Requests at least.
const LEAST: usize = 2000;
/// Rounds of which one must leave the memory as it was.
const ROUNDS: u64 = 4;
/// How long it goes on where nothing else is said.
const SECONDS: u64 = 60;

/// Numbers that look random, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A server of the demo model. Dropped, it is killed.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// Starts it at `port`, or at any that is free if that is 0.
    fn start(port: u16) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_bitnet"))
            .args(["serve", "--device=cpu", "--parallel=8", "--queue=8"])
            .args(["--kv-cache-bytes=3MiB", &format!("--port={port}")])
            .env_remove("BITNET_API_KEY")
            // One heap for all threads: how they share several is glibc's affair, and takes minutes to settle.
            .env("MALLOC_ARENA_MAX", "1")
            .stderr(Stdio::piped())
            .spawn()
            .expect("bitnet serve");
        let mut lines = BufReader::new(process.stderr.take().expect("its stderr")).lines();
        let address = loop {
            let line = lines.next().expect("it serves").expect("a line");
            if let Some(rest) = line.strip_prefix("serving at http://") {
                break rest.split([' ', '/']).next().unwrap_or(rest).to_owned();
            }
        };
        // What it says later must not fill a pipe that nobody reads.
        thread::spawn(move || lines.map_while(Result::ok).count());
        Self { process, address }
    }

    fn port(&self) -> u16 {
        let port = self.address.rsplit(':').next();
        port.and_then(|port| port.parse().ok()).expect("a port")
    }

    /// Kills it as `kill -9` does.
    fn kill(&mut self) {
        self.process.kill().expect("a kill");
        self.process.wait().expect("its end");
    }

    /// Bytes of memory that are its own, but for what it keeps of earlier prompts up to a limit.
    fn memory(&self) -> f64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).expect("/proc");
        let line = status.lines().find_map(|it| it.strip_prefix("RssAnon:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        kilobytes
            .and_then(|number| number.parse::<f64>().ok())
            .expect("a number of kB")
            * 1024.0
            - self.metric("bitnet_kv_cached_bytes{")
    }

    /// Sum of all metrics that begin so.
    fn metric(&self, name: &str) -> f64 {
        let (status, text) = exchange(&self.address, &get("/metrics")).expect("metrics");
        assert_eq!(status, 200);
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: soak\r\nconnection: close\r\n\r\n").into_bytes()
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: soak\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn send(address: &str, request: &[u8]) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    // Nothing may hang.
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(request)?;
    Ok(stream)
}

/// Status and body; chunks are left as they are.
fn exchange(address: &str, request: &[u8]) -> std::io::Result<(u16, String)> {
    let mut answer = Vec::new();
    send(address, request)?.read_to_end(&mut answer)?;
    parts(&answer)
}

/// An exchange whose answer is read in small pieces, with pauses.
fn slowly(address: &str, request: &[u8]) -> std::io::Result<(u16, String)> {
    let mut stream = send(address, request)?;
    let mut answer = Vec::new();
    let mut piece = [0; 512];
    loop {
        thread::sleep(Duration::from_millis(5));
        match stream.read(&mut piece)? {
            0 => return parts(&answer),
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
}

/// Status and body of an answer.
fn parts(answer: &[u8]) -> std::io::Result<(u16, String)> {
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| std::io::Error::other(format!("no answer: {answer:?}")))?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no status: {head:?}")))?;
    Ok((status, body.to_owned()))
}

/// The text of an answer, streamed or not.
fn text(body: &str) -> Option<String> {
    if let Ok(whole) = serde_json::from_str::<Value>(body) {
        return whole["choices"][0]["text"].as_str().map(str::to_owned);
    }
    let mut text = String::new();
    let mut is_done = false;
    for data in body.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if data == "[DONE]" {
            is_done = true;
        } else {
            let event: Value = serde_json::from_str(data).ok()?;
            text += event["choices"][0]["text"].as_str().unwrap_or("");
        }
    }
    is_done.then_some(text)
}

/// The request of that number: some are long, some greedy, some drawn by a seed of their own.
fn request(number: usize, streamed: bool) -> Vec<u8> {
    let mut random = Random(number as u64 * 7919 + 1);
    let words = [
        "one",
        "the river",
        "a small model",
        "bits",
        "and so on",
        "why",
    ];
    let length = 1 + random.below(60);
    let prompt: Vec<&str> = (0..length)
        .map(|_| words[random.below(words.len())])
        .collect();
    let temperature = [0.0, 0.7, 1.5][random.below(3)];
    json!({
        "prompt": prompt.join(" "),
        "max_tokens": 1 + random.below(40),
        "temperature": temperature,
        "seed": number,
        "stream": streamed,
    })
    .to_string()
    .into_bytes()
}

/// Requests by what became of them.
#[derive(Default)]
struct Counts {
    whole: AtomicUsize,
    left: AtomicUsize,
    refused: AtomicUsize,
    busy: AtomicUsize,
    broken: AtomicUsize,
}

impl Counts {
    fn all(&self) -> usize {
        let each = [
            &self.whole,
            &self.left,
            &self.refused,
            &self.busy,
            &self.broken,
        ];
        each.iter().map(|count| count.load(Ordering::SeqCst)).sum()
    }
}

/// One thing that a user does. `is_killed` says whether the server may be gone.
fn act(address: &str, random: &mut Random, alone: &[String], counts: &Counts, is_killed: bool) {
    let number = random.below(alone.len());
    let add = |count: &AtomicUsize| count.fetch_add(1, Ordering::SeqCst);
    let path = "/v1/completions";
    match random.below(20) {
        // Leaves in the middle of a body.
        0 => {
            let whole = post(path, &request(number, true));
            let half = &whole[..whole.len() - 1 - random.below(40)];
            // A server that is gone takes nothing, which is no matter to who leaves.
            let _ = send(address, half);
            add(&counts.left);
        }
        // Leaves in the middle of an answer.
        1..=2 => {
            if let Ok(mut stream) = send(address, &post(path, &request(number, true))) {
                let mut some = vec![0; 200 + random.below(800)];
                let _ = stream.read(&mut some);
            }
            add(&counts.left);
        }
        // Sends what is no request.
        3..=4 => {
            let mut body = request(number, false);
            for _ in 0..1 + random.below(4) {
                let place = random.below(body.len());
                body[place] = random.below(256) as u8;
            }
            body.truncate(1 + random.below(body.len()));
            match exchange(address, &post(path, &body)) {
                Ok((200..=499, _)) => add(&counts.refused),
                Err(_) if is_killed => add(&counts.broken),
                other => panic!("{other:?} to {:?}", String::from_utf8_lossy(&body)),
            };
        }
        kind => {
            let streamed = kind % 2 == 0;
            let asked = post(path, &request(number, streamed));
            let answer = if kind == 6 {
                slowly(address, &asked)
            } else {
                exchange(address, &asked)
            };
            match answer {
                Ok((200, body)) => match text(&dechunked(&body)) {
                    Some(text) => {
                        assert_eq!(text, alone[number], "request {number} in company");
                        add(&counts.whole);
                    }
                    None if is_killed => {
                        add(&counts.broken);
                    }
                    None => panic!("request {number} was cut: {body}"),
                },
                Ok((429, _)) => {
                    add(&counts.busy);
                    thread::sleep(Duration::from_millis(20));
                }
                Err(_) if is_killed => {
                    add(&counts.broken);
                    thread::sleep(Duration::from_millis(20));
                }
                other => panic!("{other:?} to request {number}"),
            }
        }
    }
}

/// A body without the lengths of its chunks.
fn dechunked(body: &str) -> String {
    let mut rest = body;
    let mut whole = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let Ok(length) = usize::from_str_radix(length, 16) else {
            return body.to_owned();
        };
        if length == 0 || after.len() < length {
            break;
        }
        let (chunk, next) = after.split_at(length);
        whole += chunk;
        rest = next.trim_start_matches("\r\n");
    }
    if whole.is_empty() {
        body.to_owned()
    } else {
        whole
    }
}

/// All users until `until` says that it is enough.
fn users(
    server: &str,
    (seed, alone): (u64, &[String]),
    counts: &Counts,
    is_killed: bool,
    until: &(dyn Fn(&Counts) -> bool + Sync),
) {
    thread::scope(|scope| {
        for user in 0..USERS {
            scope.spawn(move || {
                let mut random = Random(seed * 1000 + user as u64 + 1);
                while !until(counts) {
                    act(server, &mut random, alone, counts, is_killed);
                }
            });
        }
    });
}

/// Waits until nothing runs or waits.
fn settle(server: &Server) {
    let begin = Instant::now();
    let busy =
        || server.metric("bitnet_texts_running{") + server.metric("bitnet_requests_waiting{");
    while busy() > 0.0 {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "texts of clients that left go on"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "takes a minute: cargo xtask soak"]
fn bad_users_change_nothing() {
    let seconds = std::env::var("BITNET_SOAK_SECONDS").ok();
    let seconds = seconds.map_or(SECONDS, |text| {
        text.parse().expect("BITNET_SOAK_SECONDS in seconds")
    });
    let mut server = Server::start(0);
    let alone: Vec<String> = (0..REQUESTS)
        .map(|number| {
            let asked = post("/v1/completions", &request(number, number % 2 == 0));
            let (status, body) = exchange(&server.address, &asked).expect("an answer");
            assert_eq!(status, 200, "{body}");
            text(&dechunked(&body)).unwrap_or_else(|| panic!("no text in {body}"))
        })
        .collect();
    let different: BTreeMap<&String, ()> = alone.iter().map(|text| (text, ())).collect();
    assert!(
        different.len() > REQUESTS / 2,
        "{} texts of {REQUESTS} requests",
        different.len()
    );

    // Killed in the middle of it, and started again where it was.
    let before = Counts::default();
    let (address, port) = (server.address.clone(), server.port());
    thread::scope(|scope| {
        scope.spawn(|| {
            users(&address, (1, &alone), &before, true, &|counts| {
                counts.all() >= LEAST / 4
            });
        });
        while before.all() < LEAST / 10 {
            thread::sleep(Duration::from_millis(10));
        }
        server.kill();
        server = Server::start(port);
    });
    settle(&server);

    // Every list and cache grows to what it will be.
    let (warm, begin) = (Counts::default(), Instant::now());
    let half = Duration::from_secs(seconds / 2);
    let enough = |counts: &Counts| counts.all() >= LEAST / 2 && begin.elapsed() >= half;
    users(&server.address, (2, &alone), &warm, false, &enough);
    settle(&server);
    let mut memory = server.memory();
    // The pool keeps what the largest step so far took, so that memory may rise to another level; a leak rises in every round.
    for round in 1.. {
        let after = one_round(&server, &alone, (2 + round, half), memory);
        if (after / memory - 1.0).abs() <= 0.02 {
            break;
        }
        assert!(
            round < ROUNDS,
            "memory rose in {ROUNDS} rounds, at last from {memory} to {after}"
        );
        memory = after;
    }
    let of = |count: &AtomicUsize| count.load(Ordering::SeqCst);
    println!(
        "{} before a kill, {} broken by it",
        before.all(),
        of(&before.broken)
    );
    assert!(of(&before.broken) > 0, "the kill broke nothing");
}

/// Users for a while, every one of whose texts must have ended once. Returns the memory after them.
fn one_round(server: &Server, alone: &[String], (seed, time): (u64, Duration), memory: f64) -> f64 {
    let ended = server.metric("bitnet_requests_total{");
    let (counts, begin) = (Counts::default(), Instant::now());
    let enough = |counts: &Counts| counts.all() >= LEAST / 2 && begin.elapsed() >= time;
    users(&server.address, (seed, alone), &counts, false, &enough);
    settle(server);
    let (after, ended) = (
        server.memory(),
        server.metric("bitnet_requests_total{") - ended,
    );
    let of = |count: &AtomicUsize| count.load(Ordering::SeqCst) as f64;
    println!(
        "{} s: {} answered whole, {} clients left, {} bodies refused, {} told to come again; memory {:.1} MB, then {:.1} MB \
         ({:+.2} %)",
        begin.elapsed().as_secs(),
        of(&counts.whole),
        of(&counts.left),
        of(&counts.refused),
        of(&counts.busy),
        memory / 1e6,
        after / 1e6,
        100.0 * (after / memory - 1.0),
    );
    // Clients that left, and bodies that happened to be requests, may have ended texts, too.
    let most = of(&counts.whole) + of(&counts.left) + of(&counts.refused);
    assert!(
        (of(&counts.whole)..=most).contains(&ended),
        "{ended} texts ended"
    );
    after
}
