//! States that are read, restored, rolled back and forked.

use super::MLX;
use super::mixers::{attend, attention, row_width, state, whole_rope};
use crate::parity::harness::*;
use bitnet_core::{AttentionHeads, Backend, MixerState, MixerWeights, SequenceState};

const HEADS: AttentionHeads = AttentionHeads {
    query: 4,
    kv: 2,
    dim: 6,
};

/// Keys and values of `layer`.
fn read<B: Backend>(backend: &B, state: &B::State, layer: usize) -> [Vec<f32>; 2] {
    let snapshots = backend.snapshots().expect("snapshots");
    snapshots.read_layer(state, layer).expect("rows")
}

/// Appends positions to both layers.
fn restore<B: Backend>(backend: &B, state: &mut B::State, keys: &[f32], values: &[f32]) {
    let snapshots = backend.snapshots().expect("snapshots");
    for (layer, [keys, values]) in [[values, keys], [keys, values]].into_iter().enumerate() {
        snapshots
            .write_layer(state, layer, keys, values)
            .expect("written");
    }
    let positions = keys.len() / HEADS.kv_width();
    snapshots.complete(state, positions).expect("counted");
}

#[test]
fn rows_come_out_as_they_went_in_and_as_the_cpu_has_them() {
    let cpu = cpu();
    let stride = HEADS.kv_width();
    let layers = [MixerState::KeysValues(HEADS); 2];
    let mut mlx_state = MLX.state(&layers, 700, None).expect("a state");
    let mut cpu_state = cpu.state(&layers, 700, compared(&cpu)).expect("a state");
    assert_eq!((mlx_state.len(), mlx_state.bytes()), (0, 0));
    let nothing = read(&*MLX, &mlx_state, 0);
    assert!(nothing.iter().all(Vec::is_empty));
    let mut numbers = Numbers(71);
    // Over the edges of the room there is.
    for positions in [1, 15, 240, 1, 300, 2] {
        let [keys, values] = [(); 2].map(|()| numbers.floats(positions * stride));
        restore(&*MLX, &mut mlx_state, &keys, &values);
        restore(&cpu, &mut cpu_state, &keys, &values);
    }
    for layer in [0, 1] {
        let expected = read(&cpu, &cpu_state, layer);
        assert_eq!(read(&*MLX, &mlx_state, layer), expected);
    }
    assert_eq!(mlx_state.len(), 559);
    assert!(mlx_state.bytes() >= 2 * 2 * 559 * stride * 4);
    mlx_state.truncate(37);
    let [expected, _] = read(&cpu, &cpu_state, 1);
    let [keys, _] = read(&*MLX, &mlx_state, 1);
    assert_eq!(keys, expected[..37 * stride]);
    let more = numbers.floats(stride);
    let snapshots = MLX.snapshots().expect("snapshots");
    // What is written counts once it is complete.
    snapshots
        .write_layer(&mut mlx_state, 1, &more, &more)
        .expect("written");
    assert_eq!(read(&*MLX, &mlx_state, 1)[0], keys);
    snapshots.complete(&mut mlx_state, 1).expect("counted");
    let [keys, _] = read(&*MLX, &mlx_state, 1);
    assert_eq!(keys[37 * stride..], more);
    mlx_state.truncate(0);
    assert_eq!((mlx_state.len(), mlx_state.bytes()), (0, 0));
    for bad in [(&more[..], &more[1..]), (&more[1..], &more[1..])] {
        let error = snapshots.write_layer(&mut mlx_state, 0, bad.0, bad.1);
        assert!(error.is_err());
    }
    let many = vec![0.0; 701 * stride];
    for error in [
        snapshots.write_layer(&mut mlx_state, 0, &many, &many),
        snapshots.complete(&mut mlx_state, 701),
    ] {
        let error = error.expect_err("too many").to_string();
        assert!(error.contains("at most 700"), "{error}");
    }
}

/// What a token at position 4000 attends to. MLX multiplies position and frequency in f32: the angle of the first pair is off by
/// up to 2·10⁻⁴.
#[test]
fn far_positions_keep_their_angle() {
    const FAR: usize = 4000;
    let heads = AttentionHeads {
        query: 4,
        kv: 2,
        dim: 64,
    };
    let weights = attention(heads, &whole_rope(heads, 500_000.0));
    let mut numbers = Numbers(72);
    let before = [(); 2].map(|()| numbers.floats(FAR * heads.kv_width()));
    let x = numbers.floats(row_width(heads));
    let x: Vec<f32> = x.iter().map(|x| 4.0 * x).collect();
    let found = attended_after(&*MLX, heads, &weights, &before, &x);
    let expected = attended_after(&cpu(), heads, &weights, &before, &x);
    assert_close(&found, &expected, 1e-3, "position 4000");
}

/// What attention adds to a row after some positions.
fn attended_after<B: Backend>(
    backend: &B,
    heads: AttentionHeads,
    weights: &MixerWeights,
    [keys, values]: &[Vec<f32>; 2],
    x: &[f32],
) -> Vec<f32> {
    let far = keys.len() / heads.kv_width();
    let mut state = state(backend, heads, far + 1);
    let snapshots = backend.snapshots().expect("snapshots");
    snapshots
        .write_layer(&mut state, 0, keys, values)
        .expect("written");
    snapshots.complete(&mut state, far).expect("counted");
    let sums = attend(backend, &mut state, weights, x, &[1]);
    let attended = sums.iter().zip(x).map(|(sum, x)| sum - x);
    attended.take(heads.query_width()).collect()
}

/// Both sequences of a fork go on as if each had run alone, whichever goes on first.
#[test]
fn forks_go_on_independently() {
    let weights = attention(HEADS, &whole_rope(HEADS, 10_000.0));
    let mut numbers = Numbers(73);
    let cols = row_width(HEADS);
    // Within the first room, at its edge, and beyond it.
    for (run, shared) in [(5, 3), (256, 256), (300, 280), (4, 9), (2, 0)] {
        let x = numbers.floats(run * cols);
        let [one, two] = [(); 2].map(|()| numbers.floats(20 * cols));
        let mut original = state(&*MLX, HEADS, 400);
        attend(&*MLX, &mut original, &weights, &x, &[run]);
        let mut fork = MLX.fork(&original, shared).expect("a fork");
        let shared = shared.min(run);
        assert_eq!((original.len(), fork.len()), (run, shared));
        assert_eq!(fork.capacity(), 400);
        let steps = [1, 18, 1];
        let mut found = [Vec::new(), Vec::new()];
        let (mut one_left, mut two_left) = (&one[..], &two[..]);
        for step in steps {
            let (rows, rest) = one_left.split_at(step * cols);
            found[0].extend(attend(&*MLX, &mut original, &weights, rows, &[step]));
            one_left = rest;
            let (rows, rest) = two_left.split_at(step * cols);
            found[1].extend(attend(&*MLX, &mut fork, &weights, rows, &[step]));
            two_left = rest;
        }
        for (found, (len, own)) in found.iter().zip([(run, &one), (shared, &two)]) {
            let mut alone = state(&*MLX, HEADS, 400);
            if len > 0 {
                attend(&*MLX, &mut alone, &weights, &x[..len * cols], &[len]);
            }
            let expected = attend(&*MLX, &mut alone, &weights, own, &steps);
            assert_same(
                found,
                &expected,
                &format!("{run} positions, {shared} shared"),
            );
        }
    }
}
