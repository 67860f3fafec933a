// Puts the pieces of a context together (pieces.wgsl).
//
// Out: [tokens, QUERY_HEADS·DIM]. Grid (QUERY_HEADS, tokens), one invocation for four columns.
// Constants: those of pieces.wgsl, DIM, THREADS.

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> step: Step;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let head = group.x;
    let token = group.y;
    for (var chunk = local; chunk < DIM4; chunk += THREADS) {
        let four = together4(token, head, chunk);
        for (var c = 0u; c < 4u; c++) {
            if 4u * chunk + c < DIM {
                out[token * (QUERY_HEADS * DIM) + head * DIM + 4u * chunk + c] = four[c];
            }
        }
    }
}
