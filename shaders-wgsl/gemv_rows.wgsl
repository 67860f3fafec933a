// Some tokens times up to three ternary matrices whose scale belongs to the tensor, each word of weights unpacked once for TOKENS
// tokens.
//
//     out[token, r] = Σ (code − 1)·q / s · factor          (sums exact in i32)
//
// Matrices as in matrices.wgsl; q and s as quantize.wgsl writes them. A team multiplies EACH neighbouring rows; words of a row go to
// its lanes in turn, and the next ones are on their way meanwhile. Lines behind `row` stand for these rows, with # for 0, 1, …; lines
// behind `token` for the tokens, with @.
//
// EPILOGUE 0 stores [tokens, OUT_STRIDE]: the rows of matrix m at column OUTm. 1 adds the residual at the same place.
// 2 stores gate(row of the first)·(row of the second); a team's rows are then those of the first and the second in turn.
//
// Grid (⌈rows / (TEAMS·EACH)⌉, ⌈tokens / TOKENS⌉), gated of all rows of both. Reads rows·COLS/4 bytes of weights and rows/EACH·COLS
// bytes of each token; 2·rows·COLS integer operations a token.
// Constants: those of matrices.wgsl, OUT_STRIDE, R_OFFSET and R_STRIDE (of the residual), EPILOGUE, SILU, EACH (even, if gated),
// TOGETHER (rows that make up one product: 2 if gated, else 1), TOKENS, THREADS, LANES.

@group(0) @binding(0) var<storage, read> q: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> scales: array<f32>;
@group(0) @binding(5) var<storage, read> residual: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
@group(0) @binding(7) var<uniform> step: Step;

// The sums of a team.
const SUMS: u32 = EACH * TOKENS;

var<workgroup> team_sums: array<i32, THREADS / LANES * SUMS>;

// The row that has this number among all; past the last one, that one stands in.
fn row_at(index: u32) -> RowAt {
    if EPILOGUE == 2u {
        return RowAt(index % 2u, min(index / 2u, ROWS0 - 1u));
    }
    return row_among(index);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = local % LANES;
    let team = local / LANES;
    let first = (group.x * (THREADS / LANES) + team) * EACH;
    let first_token = group.y * TOKENS;
    // Past the last token or word, that one stands in.
//token     let token@ = min(first_token + @u, step.count - 1u) * WORDS;
//row     let at# = row_at(first + #u);
//row     let words# = HEADER + at#.row * WORDS;
//row     var next# = code_word(at#.matrix, words# + min(lane, WORDS - 1u));
//row //token     var sum#_@ = 0;
    for (var w = lane; w < WORDS; w += LANES) {
//row         let codes# = unpacked(next#);
//row         next# = code_word(at#.matrix, words# + min(w + LANES, WORDS - 1u));
//token         let q@ = q[token@ + w];
//token //row         sum#_@ += dot16(codes#, q@);
    }
    let sums = team * SUMS;
//row //token     let all#_@ = lanes_sum_i32(sum#_@, local);
//row //token     if lane == (#u * TOKENS + @u) % LANES { team_sums[sums + #u * TOKENS + @u] = all#_@; }
    workgroupBarrier();
    let last = select(ROWS0 + ROWS1 + ROWS2, ROWS0, EPILOGUE == 2u);
    for (var i = lane; i < SUMS / TOGETHER; i += LANES) {
        let token = first_token + i % TOKENS;
        let row = i / TOKENS * TOGETHER;
        if token < step.count && (first + row) / TOGETHER < last {
            let at = row_at(first + row);
            let sum_at = sums + row * TOKENS + i % TOKENS;
            var value = f32(team_sums[sum_at]) / scales[token] * factor_of(at.matrix);
            if EPILOGUE == 2u {
                let up = f32(team_sums[sum_at + TOKENS]) / scales[token] * factor_of(1u);
                value = gated4(vec4<f32>(value), vec4<f32>(up)).x;
            }
            let column = out_of(at.matrix) + at.row;
            if EPILOGUE == 1u {
                value = residual[R_OFFSET + token * R_STRIDE + column] + value;
            }
            out[token * OUT_STRIDE + column] = value;
        }
    }
}
