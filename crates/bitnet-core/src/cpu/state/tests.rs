use super::*;
use crate::cpu::Isa;
use half::f16;
use proptest::prelude::*;

const HEADS: AttentionHeads = AttentionHeads {
    query: 4,
    kv: 2,
    dim: 3,
};

fn state(kv: KvType) -> CpuState {
    let layers = [MixerState::KeysValues(HEADS); 2];
    CpuState::new(&HybridMemoryPool::default(), &layers, 1000, kv).unwrap()
}

fn kernels() -> &'static Kernels {
    Isa::Scalar.kernels()
}

/// Appends rows to a layer and counts them.
fn append(state: &mut CpuState, threads: &Threads, layer: usize, keys: &[f32], values: &[f32]) {
    let count = keys.len() / HEADS.kv_width();
    state.reserve(count).unwrap();
    let by = (threads, kernels());
    state.write(by, layer, keys, values).unwrap();
    state.advance(count);
}

#[test]
fn rows_come_out_as_they_went_in() {
    for threads in [1, 3] {
        rows_come_out(&Threads::new(Some(threads)).unwrap());
    }
}

fn rows_come_out(threads: &Threads) {
    let mut state = state(KvType::F32);
    let stride = HEADS.kv_width();
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for positions in [1, 15, 16, 17, 300, 2] {
        let first = keys.len();
        keys.extend((0..positions * stride).map(|i| (first + i) as f32));
        values.extend((0..positions * stride).map(|i| -((first + i) as f32)));
        append(&mut state, threads, 1, &keys[first..], &values[first..]);
    }
    assert_eq!(state.rows(1).unwrap(), [keys.clone(), values.clone()]);
    let fork = state.fork(40);
    state.truncate(37);
    let [shorter, _] = state.rows(1).unwrap();
    assert_eq!(shorter, keys[..37 * stride]);
    assert!(state.rows(2).is_err());
    // A fork does not see what the other writes behind it.
    let other = vec![7.5; stride];
    append(&mut state, threads, 1, &other, &other);
    assert_eq!(fork.rows(1).unwrap()[0], keys[..40 * stride]);
    assert_eq!(state.rows(1).unwrap()[0][37 * stride..], other);
}

#[test]
fn a_state_takes_the_bytes_of_its_type() {
    let numbers = 2 * 2 * HEADS.kv_width() * POSITIONS;
    let scales = 2 * 2 * HEADS.kv * POSITIONS;
    for (kv, block) in [
        (KvType::F32, 4 * numbers),
        (KvType::F16, 2 * numbers),
        (KvType::Int8, numbers + 4 * scales),
    ] {
        let mut state = state(kv);
        assert_eq!(state.bytes_for(0..0), 0);
        assert_eq!(state.bytes_for(0..1), block);
        assert_eq!(state.bytes_for(0..65), 2 * block);
        assert_eq!(state.bytes_for(64..65), block);
        state.reserve(65).unwrap();
        assert_eq!(state.bytes(), 2 * block);
        assert_eq!(state.bytes_beyond(64), block);
    }
}

/// As much as is said to be taken at most is taken in the end, and no more: by layers that see all, with a window, and recurrent.
#[test]
fn states_take_what_they_are_said_to() {
    let delta = crate::DeltaHeads {
        key: 1,
        value: 2,
        key_dim: 4,
        value_dim: 4,
        taps: 2,
    };
    let wide = MixerState::KeysValues(HEADS);
    let window = MixerState::Window(HEADS, 100);
    let recurrent = MixerState::Recurrent(delta);
    let block = CpuState::new(&HybridMemoryPool::default(), &[wide], 64, KvType::F16).unwrap();
    let block = block.bytes_for(0..64);
    let of =
        |mixers: &[MixerState], positions| state_bytes(mixers, positions, KvType::F16).unwrap();
    assert_eq!(of(&[wide; 3], 640), 30 * block);
    // Two blocks that the window touches, and sixteen behind it.
    assert_eq!(of(&[window], 1 << 20), 18 * block);
    assert_eq!(of(&[window], 640), 10 * block);
    let states = of(&[recurrent], 0);
    assert_eq!(
        (states, of(&[recurrent], 1 << 20)),
        (5 * 4 * (2 * 16 + 16), states)
    );
    assert_eq!(
        of(&[wide, window, recurrent], 1 << 20),
        (1 << 14) * block + 18 * block + states
    );
    let mut state = CpuState::new(
        &HybridMemoryPool::default(),
        &[wide, window],
        1 << 12,
        KvType::F16,
    )
    .unwrap();
    let mut most = 0;
    while state.len() < 1 << 12 {
        state.reserve(128).unwrap();
        most = most.max(state.bytes());
        state.advance(128);
        assert!(state.bytes() <= state.bytes_for(0..state.len()));
    }
    assert!(most <= of(&[wide, window], 1 << 12), "{most}");
    // A window that ends at its last position, and what may be taken back.
    assert_eq!(state.bytes_beyond(0), (64 + 10) * block);
    // What was rolled back, or made room for, is not kept.
    state.truncate(4000);
    assert_eq!(state.bytes(), (63 + 9) * block);
    state.reserve(96).unwrap();
    assert_eq!(state.bytes(), (64 + 10) * block);
    state.truncate(state.len());
    assert_eq!(state.bytes(), (63 + 9) * block);
}

/// What a state of this type makes of the key or the value of a head.
fn rounded(kv: KvType, head: &[f32]) -> Vec<f32> {
    match kv {
        KvType::F32 => head.to_vec(),
        KvType::F16 => head.iter().map(|x| f16::from_f32(*x).to_f32()).collect(),
        KvType::Int8 => {
            let mut q = vec![0; head.len()];
            let scale = (kernels().round_head)(head, &mut q);
            q.iter().map(|q| f32::from(*q) * scale).collect()
        }
    }
}

fn bits(rows: &[f32]) -> Vec<u32> {
    rows.iter().map(|x| x.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every type rounds each head of each position by itself, and reads what was read out as the same bytes.
    #[test]
    fn rows_are_rounded_once(
        numbers in prop::collection::vec(prop_oneof![-9.0f32..9.0, Just(0.0), Just(-0.0)], 2 * 6 * 70),
        cuts in prop::collection::vec(1usize..70, 1..4),
        threads in 1usize..3,
    ) {
        let threads = Threads::new(Some(threads)).unwrap();
        let stride = HEADS.kv_width();
        let (keys, values) = numbers.split_at(numbers.len() / 2);
        for kv in KvType::ALL {
            let mut state = state(kv);
            let mut from = 0;
            for to in cuts.iter().map(|cut| cut * stride).chain([keys.len()]) {
                if to > from {
                    append(&mut state, &threads, 0, &keys[from..to], &values[from..to]);
                    from = to;
                }
            }
            let found = state.rows(0).unwrap();
            for (found, given) in found.iter().zip([keys, values]) {
                let expected: Vec<f32> =
                    given.chunks(HEADS.dim).flat_map(|head| rounded(kv, head)).collect();
                // A rounded −0 is 0.
                prop_assert_eq!(found, &expected);
            }
            let mut restored = self::state(kv);
            append(&mut restored, &threads, 0, &found[0], &found[1]);
            let again = restored.rows(0).unwrap();
            prop_assert_eq!(again.each_ref().map(|rows| bits(rows)), found.each_ref().map(|rows| bits(rows)));
        }
    }
}

#[test]
fn no_number_is_refused() {
    let threads = Threads::new(Some(1)).unwrap();
    let odd = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -0.0,
        f32::MAX,
        1e-45,
    ];
    for kv in KvType::ALL {
        let mut state = state(kv);
        append(&mut state, &threads, 0, &odd, &odd);
        let [keys, values] = state.rows(0).unwrap();
        assert_eq!(bits(&keys), bits(&values), "{kv}");
        if kv == KvType::Int8 {
            assert!(keys.iter().all(|key| key.is_finite()));
        }
    }
}
