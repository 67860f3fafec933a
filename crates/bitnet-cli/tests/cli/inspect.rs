//! `bitnet inspect`.

use super::{json, stdout, tiny};

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
