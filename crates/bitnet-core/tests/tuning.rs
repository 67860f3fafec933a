//! Tuning: what it decides, what it says about it, and which calibration files it believes.

use bitnet_core::cpu::Isa;
use bitnet_core::cpu::tuning::{
    Calibration, Choice, Crossovers, Curve, Identity, KernelTimes, Operation, Origin, Point,
    Request, Tuning, file,
};
use bitnet_quant::{Format, I2sLayout};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;

const I2_S: Format = Format::I2s(I2sLayout::A);

fn curve(points: &[(u64, f64, f64)]) -> Curve {
    let point = |&(size, small_ns, large_ns): &(u64, f64, f64)| Point {
        size,
        small_ns,
        large_ns,
    };
    Curve {
        points: points.iter().map(point).collect(),
    }
}

/// A measurement of the scalar kernels: threads pay from 2000 on, tiles from 4 tokens on.
fn calibration() -> Calibration {
    let split = curve(&[
        (1000, 1000.0, 5000.0),
        (2000, 12_345.0, 5500.0),
        (4000, 24_000.0, 9000.0),
    ]);
    let direct = curve(&[(1, 10.0, 50.0), (2, 20.0, 55.0), (4, 80.0, 65.0)]);
    Calibration {
        identity: Identity::here(),
        seconds: 0.5,
        kernel_sets: vec![KernelTimes {
            kernels: Isa::Scalar.name().to_owned(),
            split: BTreeMap::from([(Operation::TernaryMatmul, split)]),
            direct: BTreeMap::from([(I2_S.to_string(), direct)]),
        }],
    }
}

fn ternary(tokens: usize, rows: usize, cols: usize) -> Request {
    Request {
        operation: Operation::TernaryMatmul,
        format: Some(I2_S),
        tokens,
        rows,
        cols,
    }
}

#[test]
fn a_calibration_survives_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("of/the user/cache.json");
    assert_eq!(file::load(&path, &Identity::here()).expect("no file"), None);
    assert!(matches!(
        Tuning::from_file(&path).origin(),
        Origin::BuiltIn { .. }
    ));
    for _ in 0..2 {
        file::store(&path, &calibration()).expect("written");
        let loaded = file::load(&path, &Identity::here()).expect("read");
        assert_eq!(loaded, Some(calibration()));
    }
    let table = Tuning::from_file(&path);
    assert_eq!(table.path(), Some(&*path));
    let crossovers = table.crossovers(Isa::Scalar);
    assert_eq!(crossovers.parallel_above(Operation::TernaryMatmul), 2000);
    assert_eq!(crossovers.gemv_max_tokens(I2_S), 3);
    // What was not measured is built in.
    let built_in = Crossovers::built_in(Isa::Scalar);
    let norm = Operation::Norm;
    assert_eq!(
        crossovers.parallel_above(norm),
        built_in.parallel_above(norm)
    );
    assert_eq!(table.crossovers(Isa::Avx2), Crossovers::built_in(Isa::Avx2));
    let names = fs::read_dir(path.parent().expect("a folder")).expect("listed");
    assert_eq!(names.count(), 1, "nothing but the file is left");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let occupied = folder.path().join("file");
    fs::write(&occupied, "").expect("written");
    let error = file::store(&occupied.join("c.json"), &calibration()).expect_err("no folder");
    assert!(error.to_string().contains("c.json"), "{error}");
    assert!(file::load(folder.path(), &Identity::here()).is_err());
}

#[test]
fn hostile_files_are_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("calibration.json");
    let good = serde_json::to_string(&calibration()).expect("JSON");
    let change = |from: &str, to: &str| {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from} is not in {good}");
        changed.into_bytes()
    };
    let threads = format!("\"threads\":{}", Identity::here().threads);
    let deep = "[".repeat(100_000);
    let long = format!("{}{}", good, " ".repeat(2 << 20));
    let wrong: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("no JSON", b"calibration".to_vec()),
        ("no text", vec![0xff, 0xfe, 0x00, 0x80]),
        ("another type", b"[]".to_vec()),
        ("nothing in it", b"{}".to_vec()),
        ("cut", good.as_bytes()[..good.len() / 2].to_vec()),
        ("two", format!("{good}{good}").into_bytes()),
        ("nested", deep.into_bytes()),
        ("long", long.into_bytes()),
        ("schema", change("\"schema\":1", "\"schema\":2")),
        ("version", change("\"version\":\"", "\"version\":\"9.")),
        (
            "processor",
            change("\"processor\":\"", "\"processor\":\"Z80 "),
        ),
        (
            "features",
            change("\"features\":[", "\"features\":[\"abacus\","),
        ),
        ("threads", change(&threads, "\"threads\":9999")),
        ("unknown key", change("\"seconds\"", "\"x\":1,\"seconds\"")),
        ("kernels", change("\"scalar\"", "\"abacus\"")),
        ("operation", change("ternary_matmul", "sorting")),
        ("format", change("I2_S", "F64")),
        ("negative", change("12345.0", "-12345.0")),
        ("zero", change("12345.0", "0")),
        ("overflow", change("12345.0", "1e999")),
        ("huge", change("12345.0", "1e300")),
        ("text", change("12345.0", "\"12345\"")),
        ("null", change("12345.0", "null")),
        ("negative size", change("\"size\":2000", "\"size\":-1")),
        (
            "huge size",
            change("\"size\":2000", "\"size\":18446744073709551615"),
        ),
        ("shrinking", change("\"size\":2000", "\"size\":500")),
        ("seconds", change("\"seconds\":0.5", "\"seconds\":-1.0")),
    ];
    for (what, bytes) in wrong {
        fs::write(&path, bytes).expect("written");
        let error = file::load(&path, &Identity::here())
            .expect_err(what)
            .to_string();
        assert!(error.contains("calibration.json"), "{what}: {error}");
        let table = Tuning::from_file(&path);
        let Origin::BuiltIn { why } = table.origin() else {
            panic!("{what} was believed");
        };
        assert_eq!(*why, error);
        assert_eq!(
            table.crossovers(Isa::Scalar),
            Crossovers::built_in(Isa::Scalar)
        );
    }
    // A repeated kernel set, and a curve without points or with too many.
    let mut twice = calibration();
    twice.kernel_sets.push(twice.kernel_sets[0].clone());
    let mut endless = calibration();
    let points: Vec<_> = (1..1000).map(|i| (i, 1.0, 1.0)).collect();
    endless.kernel_sets[0]
        .split
        .insert(Operation::Norm, curve(&points));
    let mut bare = calibration();
    bare.kernel_sets[0]
        .split
        .insert(Operation::Norm, curve(&[]));
    for bad in [twice, endless, bare] {
        file::store(&path, &bad).expect("written");
        assert!(file::load(&path, &Identity::here()).is_err());
    }
}

#[test]
fn every_identity_has_a_file_of_its_own() {
    let here = Identity::here();
    let mut others = vec![here.clone(); 5];
    others[0].version.push('1');
    others[1].processor.push('1');
    others[2].features.push("abacus".to_owned());
    others[3].threads += 1;
    others[4].processor = "../../etc/passwd \u{0}\u{1f980}".repeat(50);
    let name = here.file_name();
    for other in others {
        let other = other.file_name();
        assert_ne!(other, name);
        assert!(other.len() < 100, "{other}");
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        assert!(other.chars().all(plain) && !other.contains(".."), "{other}");
    }
    assert_eq!(here.file_name(), name);
}

#[test]
fn a_reason_names_the_numbers_it_rests_on() {
    let table = Tuning::measured(calibration(), None);
    let small = table.explain(Isa::Scalar, 8, &ternary(1, 10, 100));
    let large = table.explain(Isa::Scalar, 8, &ternary(2, 10, 100));
    let many = table.explain(Isa::Scalar, 8, &ternary(4, 100, 100));
    assert_eq!((small.threads, small.kernel), (1, "direct"));
    assert_eq!((large.threads, large.kernel), (8, "direct"));
    assert_eq!((many.threads, many.kernel), (8, "tiled"));
    let says = |text: &str, parts: &[&str]| {
        for part in parts {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    };
    says(
        &small.because.threads,
        &["1,000", "2,000", "1.0 µs", "5.0 µs"],
    );
    says(
        &large.because.threads,
        &["8 of 8", "2,000", "12.3 µs", "5.5 µs"],
    );
    says(&large.because.kernel, &["2 tokens ≤ 3", "I2_S"]);
    says(&many.because.kernel, &["4 tokens > 3", "0.1 µs"]);
    says(&many.because.device, &["cpu", "not built"]);
    // Alone, or not measured, the reason says that.
    let alone = table.explain(Isa::Scalar, 1, &ternary(9, 1000, 1000));
    assert_eq!(alone.threads, 1);
    says(&alone.because.threads, &["no more"]);
    let built_in = Tuning::built_in("a test");
    let choice = built_in.explain(Isa::Scalar, 8, &ternary(1, 1000, 1000));
    says(&choice.because.threads, &["1,000,000", "built in"]);
    says(&choice.because.kernel, &["1 token ", "built in"]);
}

#[test]
fn the_faster_kernels_are_preferred() {
    let times = |isa: Isa, ns: f64| KernelTimes {
        kernels: isa.name().to_owned(),
        split: BTreeMap::from([(Operation::TernaryMatmul, curve(&[(64, ns, ns)]))]),
        direct: BTreeMap::new(),
    };
    for (scalar_ns, expected) in [
        (10.0, Isa::Scalar),
        (99.0, Isa::best()),
        (500.0, Isa::best()),
    ] {
        let mut calibration = calibration();
        calibration.kernel_sets = vec![times(Isa::Scalar, scalar_ns)];
        for isa in Isa::ALL.into_iter().filter(|isa| *isa != Isa::Scalar) {
            calibration.kernel_sets.push(times(isa, 100.0));
        }
        calibration.validate(&Identity::here()).expect("sound");
        let table = Tuning::measured(calibration, None);
        assert_eq!(table.kernels(), expected);
        if Isa::best() != Isa::Scalar {
            let route = table.explain(Isa::best(), 1, &ternary(1, 8, 8));
            let ratio = format!("{:.1}×", scalar_ns / 100.0);
            let because = route.because.kernels;
            assert!(
                because.contains(&ratio) || because.contains("scalar would be chosen"),
                "{because}"
            );
        }
    }
    assert_eq!(Tuning::built_in("a test").kernels(), Isa::best());
}

proptest! {
    /// More work never gets fewer threads, and more tokens never go back to packed rows.
    #[test]
    fn choices_are_monotone(
        sizes in prop::collection::vec(1usize..2000, 3),
        more in prop::collection::vec(1usize..2000, 3),
        which in 0..Operation::ALL.len(),
        threads in 1usize..64,
        measured in any::<bool>(),
        times in prop::collection::vec((1.0f64..1e6, 1.0f64..1e6), 1..12),
    ) {
        let mut calibration = calibration();
        let points: Vec<_> = times.iter().enumerate().map(|(i, t)| (1 << (2 * i), t.0, t.1)).collect();
        let set = &mut calibration.kernel_sets[0];
        for operation in Operation::ALL {
            set.split.insert(operation, curve(&points));
        }
        set.direct.insert(I2_S.to_string(), curve(&points));
        calibration.validate(&Identity::here()).unwrap();
        let table = if measured { Tuning::measured(calibration, None) } else { Tuning::built_in("a test") };
        let operation = Operation::ALL[which];
        let format = match operation {
            Operation::TernaryMatmul => Some(I2_S),
            Operation::DenseMatmul => Some(Format::F16),
            _ => None,
        };
        let route = |sizes: [usize; 3]| -> Choice {
            let request = Request { operation, format, tokens: sizes[0], rows: sizes[1], cols: sizes[2] };
            table.explain(Isa::Scalar, threads, &request)
        };
        let small = route([sizes[0], sizes[1], sizes[2]]);
        let large = route([sizes[0] + more[0], sizes[1] + more[1], sizes[2] + more[2]]);
        prop_assert!(small.threads <= large.threads);
        prop_assert!([1, threads].contains(&small.threads));
        prop_assert!(small.kernel == large.kernel || small.kernel == "direct");
    }

    /// Whatever bytes are in the file, reading it gives a table.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        let mut text = serde_json::to_vec(&calibration()).unwrap();
        let at = cut.index(text.len());
        for (place, byte) in text[at..].iter_mut().zip(&bytes) {
            *place = *byte;
        }
        for content in [bytes, text] {
            fs::write(&path, content).unwrap();
            let table = Tuning::from_file(&path);
            table.explain(Isa::Scalar, 4, &ternary(usize::MAX, usize::MAX, 2));
        }
    }
}
