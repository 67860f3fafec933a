//! Sessions in files: they go on with the same bits, and what is no session of this model is refused with a sentence.
#![cfg(feature = "demo")]

use bitnet::file::synth::{self, SynthOptions};
use bitnet::{
    Activations, Error, GenerateOptions, Isa, KvType, LogitsFor, Model, ModelOptions, Session,
};

/// Where the tokens begin in a file of the demo model: magic, seven numbers, fingerprint, length of the name, "demo model".
const TOKENS: usize = 8 + 7 * 4 + 32 + 4 + "demo model".len();

fn demo(options: ModelOptions) -> Model {
    Model::demo_with(&options).expect("the demo model")
}

/// A session in the middle of a story: its last token has yet to run.
fn story(model: &Model) -> Session {
    let mut session = model.session().expect("a session");
    let options = GenerateOptions {
        max_tokens: 90,
        ..GenerateOptions::default()
    };
    let told = session
        .generate("Once upon a time", &options)
        .expect("a start");
    assert!(
        told.map(|piece| piece.expect("a piece"))
            .collect::<String>()
            .len()
            > 100
    );
    session
}

fn saved(session: &Session) -> Vec<u8> {
    let mut file = Vec::new();
    session.save("memory", &mut file).expect("a file");
    file
}

fn refused(model: &Model, file: &[u8]) -> Error {
    let before = model.pool_stats().in_use;
    let error = Session::restore(model, "a.session", file)
        .map(|_| ())
        .expect_err("no session");
    assert_eq!(model.pool_stats().in_use, before, "{error}");
    error
}

#[test]
fn goes_on_with_the_same_bits_on_any_cpu() {
    for kv in KvType::ALL {
        goes_on_with_the_same_bits(kv);
    }
}

fn goes_on_with_the_same_bits(kv: KvType) {
    let kv = Some(kv);
    let model = demo(ModelOptions {
        kv,
        ..ModelOptions::default()
    });
    let mut session = story(&model);
    let file = saved(&session);
    if kv == Some(KvType::F32) {
        assert!(file.len() < session.cache_bytes() + 2048);
    }
    let others = [
        (None, Some(1)),
        (Some(Isa::Scalar), Some(1)),
        (None, Some(3)),
    ];
    let logits = session.forward(&[7, 8], LogitsFor::All).expect("logits");
    for (isa, threads) in others {
        let model = demo(ModelOptions {
            isa,
            threads,
            kv,
            ..ModelOptions::default()
        });
        let mut restored = Session::restore(&model, "memory", &file[..]).expect("a session");
        assert_eq!(restored.tokens().len() + 2, session.tokens().len());
        assert_eq!(
            restored.forward(&[7, 8], LogitsFor::All).expect("logits"),
            logits
        );
        assert_eq!(restored.tokens(), session.tokens());
    }
}

#[test]
fn a_session_goes_on_with_another_type_of_keys_and_values() {
    let [full, half] = [KvType::F32, KvType::F16].map(|kv| {
        demo(ModelOptions {
            kv: Some(kv),
            ..ModelOptions::default()
        })
    });
    assert_eq!(half.fingerprint().unwrap(), full.fingerprint().unwrap());
    let file = saved(&story(&full));
    let mut restored = Session::restore(&half, "memory", &file[..]).unwrap();
    assert!(restored.forward(&[7, 8], LogitsFor::All).is_ok());
    // What f16 holds is exact in f32.
    let rounded = saved(&Session::restore(&half, "memory", &file[..]).unwrap());
    let widened = saved(&Session::restore(&full, "memory", &rounded[..]).unwrap());
    assert_eq!(widened, rounded);
    assert_ne!(rounded, file);
}

#[test]
fn what_it_writes_next_is_what_it_would_have_written() {
    let model = demo(ModelOptions::default());
    let mut session = story(&model);
    let mut restored = Session::restore(&model, "memory", &saved(&session)[..]).unwrap();
    let next = |session: &mut Session| {
        let options = GenerateOptions {
            max_tokens: 40,
            ..GenerateOptions::default()
        };
        let generation = session.generate_tokens(&[], &options).unwrap();
        generation.map(|piece| piece.unwrap()).collect::<String>()
    };
    let text = next(&mut session);
    assert!(!text.is_empty());
    assert_eq!(next(&mut restored), text);
    // Also after a step back, and saved again.
    session.truncate(20);
    restored.truncate(20);
    let file = saved(&session);
    assert_eq!(saved(&restored), file);
    assert_eq!(
        Session::restore(&model, "memory", &file[..])
            .unwrap()
            .tokens()
            .len(),
        20
    );
}

#[test]
fn a_session_without_tokens_can_be_saved_too() {
    let model = demo(ModelOptions::default());
    let file = saved(&model.session().unwrap());
    let mut restored = Session::restore(&model, "memory", &file[..]).unwrap();
    assert!(restored.tokens().is_empty());
    assert!(restored.forward(&[1], LogitsFor::Last).is_ok());
}

#[test]
fn another_model_is_refused_by_name() {
    let model = demo(ModelOptions::default());
    let file = saved(&story(&model));
    let rounded = demo(ModelOptions {
        activations: Activations::F32,
        ..ModelOptions::default()
    });
    let error = refused(&rounded, &file).to_string();
    assert!(
        error.contains("whose weights or options are others"),
        "{error}"
    );
    let other = synth::to_vec(&SynthOptions::default()).unwrap();
    let other = Model::from_bytes("other.gguf", other, &ModelOptions::default()).unwrap();
    let error = refused(&other, &file).to_string();
    assert!(
        error.starts_with("a.session: the session: expected one of \"other.gguf\""),
        "{error}"
    );
    assert!(error.contains("found one of \"demo model\""), "{error}");
    let short = demo(ModelOptions {
        context: Some(16),
        ..ModelOptions::default()
    });
    let error = refused(&short, &file);
    assert!(
        matches!(error, Error::ContextFull { capacity: 16, .. }),
        "{error}"
    );
}

#[test]
fn foreign_and_damaged_files_are_refused_with_a_sentence() {
    let model = demo(ModelOptions::default());
    let file = saved(&story(&model));
    let says = |file: &[u8], words: &str| {
        let error = refused(&model, file).to_string();
        assert!(error.contains(words), "{error}");
    };
    says(
        bitnet_demo::GGUF,
        "expected a session that bitnet saved, found \"GGUF",
    );
    says(b"", "an end in the middle");
    let changed = |at: usize, byte: u8| {
        let mut file = file.clone();
        file[at] = byte;
        file
    };
    says(&changed(8, 7), "version 7 of the format of sessions");
    for length in [
        7,
        11,
        40,
        TOKENS - 3,
        TOKENS + 2,
        file.len() / 2,
        file.len() - 1,
    ] {
        says(&file[..length], "its length: expected more than");
    }
    says(&[&file[..], &[0]].concat(), "found more");
    says(&changed(TOKENS + 3, 0xff), "below the vocabulary's");
    // More positions than tokens, and more tokens than the context has.
    says(
        &changed(8 + 6 * 4 + 1, 0x7f),
        "the positions: expected at most",
    );
    says(&changed(8 + 5 * 4 + 3, 0x7f), "the context of");
    // The name's length, in bytes.
    says(&changed(TOKENS - 10 - 2, 1), "the model's name");
    // A key of another value, and one that is no number.
    says(
        &changed(file.len() / 2, file[file.len() / 2] ^ 1),
        "damaged",
    );
    let mut infinite = file.clone();
    let tokens = u32::from_le_bytes(file[28..32].try_into().unwrap()) as usize;
    infinite[TOKENS + 4 * tokens..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    says(
        &infinite,
        "keys of layer 0: expected finite numbers, found NaN",
    );
}

#[test]
fn no_single_byte_can_be_another() {
    let model = demo(ModelOptions::default());
    let mut session = model.session().unwrap();
    session.forward(&[1, 2, 3], LogitsFor::Nothing).unwrap();
    let file = saved(&session);
    let places = (0..TOKENS + 12).chain((TOKENS + 12..file.len()).step_by(211));
    for at in places {
        for mask in [0x01, 0x80, 0xff] {
            let mut other = file.clone();
            other[at] ^= mask;
            assert!(
                Session::restore(&model, "a.session", &other[..]).is_err(),
                "byte {at} ^ {mask}"
            );
        }
    }
    assert!(Session::restore(&model, "a.session", &file[..]).is_ok());
}

/// Takes so many bytes, then is full.
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0 < bytes.len() {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_and_harms_nothing() {
    let model = demo(ModelOptions::default());
    let session = story(&model);
    for room in [0, 50, 5000] {
        let error = session.save("disk", Full(room)).unwrap_err();
        assert!(error.to_string().starts_with("disk: "), "{error}");
    }
    assert!(!saved(&session).is_empty());
}
