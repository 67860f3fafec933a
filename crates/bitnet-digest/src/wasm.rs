//! What a WebAssembly host calls: give memory, fill it, run a plan, read the text of the result.
//!
//! The host asks for memory by `allocate`, writes into it, and hands addresses and lengths back. Every call of
//! `digests` leaves its answer where `answer` and `answer_len` say.

use crate::Plan;
use bitnet::Model;
use std::cell::RefCell;

thread_local! {
    static ANSWER: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Memory for `len` bytes, which stays the host's until it is handed to [`digests`].
#[unsafe(no_mangle)]
pub extern "C" fn allocate(len: usize) -> *mut u8 {
    Box::leak(vec![0; len].into_boxed_slice()).as_mut_ptr()
}

/// Runs the plan in `plan` (four lines: tokens, threads, batches, types of keys and values) on the GGUF file in `file`, or on the demo model if that is
/// empty. Takes both back. Returns whether it succeeded; the answer is the table, or else what went wrong.
///
/// # Safety
/// Each address and length must come from one call of [`allocate`], and be handed over once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn digests(
    plan: *mut u8,
    plan_len: usize,
    file: *mut u8,
    file_len: usize,
) -> bool {
    // SAFETY: as demanded of the caller, these are whole allocations that `allocate` leaked, and this is their only owner.
    let (plan, file) = unsafe { (taken(plan, plan_len), taken(file, file_len)) };
    let outcome = run(&plan, file);
    let succeeded = outcome.is_ok();
    ANSWER.set(outcome.unwrap_or_else(|error| error));
    succeeded
}

/// Address of the last answer, UTF-8.
#[unsafe(no_mangle)]
pub extern "C" fn answer() -> *const u8 {
    ANSWER.with_borrow(|answer| answer.as_ptr())
}

/// Length of the last answer.
#[unsafe(no_mangle)]
pub extern "C" fn answer_len() -> usize {
    ANSWER.with_borrow(String::len)
}

/// # Safety
/// As [`digests`].
unsafe fn taken(address: *mut u8, len: usize) -> Vec<u8> {
    // SAFETY: `allocate` leaked a box of exactly this address and length, which nobody else holds.
    unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(address, len)) }.into_vec()
}

fn run(plan: &[u8], file: Vec<u8>) -> Result<String, String> {
    let text = std::str::from_utf8(plan).map_err(|error| format!("the plan: {error}"))?;
    let lines: Vec<&str> = text.lines().collect();
    let [tokens, threads, batches, kv] = lines[..] else {
        return Err(format!("the plan: expected 4 lines, found {}", lines.len()));
    };
    let file = bitnet::file::Bytes::from(file);
    let mut table = String::new();
    Plan::parse([tokens, threads, batches, kv])?
        .run(
            |options| {
                if file.is_empty() {
                    Model::demo_with(options)
                } else {
                    Model::from_bytes("model", file.clone(), options)
                }
            },
            |line| {
                table.push_str(&line.to_string());
                table.push('\n');
            },
        )
        .map_err(|error| error.to_string())?;
    Ok(table)
}
