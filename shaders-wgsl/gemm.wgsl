// Many tokens times a ternary matrix, in tiles of 64 rows × 64 tokens.
//
//     out[token, r] = (Σ over groups (Σ (code − 1)·q)·d) / s · factor          (inner sums exact in i32)
//
// Matrix as in gemv.wgsl; q and s as quantize.wgsl writes them. For each 64 columns a workgroup unpacks its rows to
// int8, one word of 16 codes an invocation, and copies its tokens; then each invocation multiplies four rows with four
// tokens, sixteen columns at a time. The next columns are on their way meanwhile. Rows in workgroup memory are five
// vectors apart instead of four, so that eight lanes find eight different banks.
//
// EPILOGUE 0 stores [tokens, OUT_STRIDE] at column OUT; 1 adds the residual.
//
// Grid (⌈ROWS / 64⌉, ⌈tokens / 64⌉). Reads COLS/4 bytes a row for each tile of tokens and COLS bytes a token for each
// tile of rows; 2·ROWS·COLS operations a token.
// Constants: WORDS, GROUPED (0: the scale is the tensor's), GROUP, GROUPS, ROWS, OUT, OUT_STRIDE, R_OFFSET, R_STRIDE, EPILOGUE. A workgroup has 256 invocations.

@group(0) @binding(0) var<storage, read> q: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> scales: array<f32>;
@group(0) @binding(2) var<storage, read> weights: array<u32>;
@group(0) @binding(3) var<storage, read> residual: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<uniform> step: Step;

const TILE: u32 = 64u;
const HEADER: u32 = 4u;
const PITCH: u32 = 5u;
const PAIRS: u32 = 0x03030303u;
const HIGH: u32 = 0x80808080u;

var<workgroup> row_tile: array<vec4<u32>, TILE * PITCH>;
var<workgroup> token_tile: array<vec4<u32>, TILE * PITCH>;

// Sixteen codes less one, as int8; no byte borrows from the next.
fn unpacked(word: u32) -> vec4<u32> {
    let codes = (vec4<u32>(word) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(PAIRS);
    return ((codes | vec4<u32>(HIGH)) - vec4<u32>(0x01010101u)) ^ vec4<u32>(HIGH);
}

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot4(a.x, b.x) + dot4(a.y, b.y) + dot4(a.z, b.z) + dot4(a.w, b.w);
}

fn row_scales(row: u32, group: u32) -> vec4<f32> {
    let at = HEADER + ROWS * WORDS + group;
    return vec4<f32>(
        bitcast<f32>(weights[at + min(row, ROWS - 1u) * GROUPS]),
        bitcast<f32>(weights[at + min(row + 16u, ROWS - 1u) * GROUPS]),
        bitcast<f32>(weights[at + min(row + 32u, ROWS - 1u) * GROUPS]),
        bitcast<f32>(weights[at + min(row + 48u, ROWS - 1u) * GROUPS]),
    );
}

fn store(token: u32, row: u32, sum: f32) {
    if token < step.count && row < ROWS {
        var value = sum / scales[token] * bitcast<f32>(weights[0]);
        if EPILOGUE == 1u {
            value = residual[R_OFFSET + token * R_STRIDE + OUT + row] + value;
        }
        out[token * OUT_STRIDE + OUT + row] = value;
    }
}

fn store4(token: u32, row: u32, sums: vec4<f32>) {
    store(token, row, sums.x);
    store(token, row + 16u, sums.y);
    store(token, row + 32u, sums.z);
    store(token, row + 48u, sums.w);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let first_row = group.x * TILE;
    let first_token = group.y * TILE;
    // What this invocation fetches: a word of a row, and as many columns of a token.
    let fetch = local / 4u;
    let part = local % 4u;
    // Past the last row or token, that one stands in.
    let row_at = HEADER + min(first_row + fetch, ROWS - 1u) * WORDS + part;
    let token_at = min(first_token + fetch, step.count - 1u) * WORDS + part;
    // What it computes: rows r, r + 16, …, and tokens t, t + 16, ….
    let r = local % 16u;
    let t = local / 16u;

    var sums0 = vec4<i32>();
    var sums1 = vec4<i32>();
    var sums2 = vec4<i32>();
    var sums3 = vec4<i32>();
    var totals0 = vec4<f32>();
    var totals1 = vec4<f32>();
    var totals2 = vec4<f32>();
    var totals3 = vec4<f32>();
    var next_word = weights[row_at];
    var next_q = q[token_at];
    for (var w = 0u; w < WORDS; w += 4u) {
        workgroupBarrier();
        row_tile[fetch * PITCH + part] = unpacked(next_word);
        token_tile[fetch * PITCH + part] = next_q;
        workgroupBarrier();
        let ahead = min(w + 4u, WORDS - 4u);
        next_word = weights[row_at + ahead];
        next_q = q[token_at + ahead];
        for (var k = 0u; k < 4u; k++) {
            let a0 = row_tile[r * PITCH + k];
            let a1 = row_tile[(r + 16u) * PITCH + k];
            let a2 = row_tile[(r + 32u) * PITCH + k];
            let a3 = row_tile[(r + 48u) * PITCH + k];
            let b0 = token_tile[t * PITCH + k];
            sums0 += vec4<i32>(dot16(a0, b0), dot16(a1, b0), dot16(a2, b0), dot16(a3, b0));
            let b1 = token_tile[(t + 16u) * PITCH + k];
            sums1 += vec4<i32>(dot16(a0, b1), dot16(a1, b1), dot16(a2, b1), dot16(a3, b1));
            let b2 = token_tile[(t + 32u) * PITCH + k];
            sums2 += vec4<i32>(dot16(a0, b2), dot16(a1, b2), dot16(a2, b2), dot16(a3, b2));
            let b3 = token_tile[(t + 48u) * PITCH + k];
            sums3 += vec4<i32>(dot16(a0, b3), dot16(a1, b3), dot16(a2, b3), dot16(a3, b3));
        }
        if GROUPED == 1u {
            let columns = (w + 4u) * 16u;
            if columns % GROUP == 0u {
                let d = row_scales(first_row + r, columns / GROUP - 1u);
                totals0 += vec4<f32>(sums0) * d;
                totals1 += vec4<f32>(sums1) * d;
                totals2 += vec4<f32>(sums2) * d;
                totals3 += vec4<f32>(sums3) * d;
                sums0 = vec4<i32>();
                sums1 = vec4<i32>();
                sums2 = vec4<i32>();
                sums3 = vec4<i32>();
            }
        }
    }
    if GROUPED == 0u {
        totals0 = vec4<f32>(sums0);
        totals1 = vec4<f32>(sums1);
        totals2 = vec4<f32>(sums2);
        totals3 = vec4<f32>(sums3);
    }
    store4(first_token + t, first_row + r, totals0);
    store4(first_token + t + 16u, first_row + r, totals1);
    store4(first_token + t + 32u, first_row + r, totals2);
    store4(first_token + t + 48u, first_row + r, totals3);
}
