// The kept candidates with their logits, and the likeliest as the token that comes next in its sequence.
//
// In: kept, [ROWS, KEPT] pairs of key and id; logits [ROWS, VOCABULARY]. Out: answer, [ROWS][entries] pairs of id and bits
// of the logit, the kept ones first, with the id 2³² − 1 where there are fewer; likeliest_of, a word for each
// sequence (asked.wgsl).
// One workgroup for a row: grid (ROWS). Constants: VOCABULARY, KEPT, THREADS.

@group(0) @binding(0) var<storage, read> kept: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read_write> answer: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> likeliest_of: array<u32>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = group.x;
    for (var i = local; i < KEPT; i += THREADS) {
        let found = kept[row * KEPT + i];
        var pair = vec2<u32>(0xffffffffu, 0u);
        // The key of a marked logit and of nobody.
        if found.x != 0u {
            pair = vec2<u32>(found.y, logits[row * VOCABULARY + found.y]);
            if i == 0u {
                keep_likeliest(row, found.y);
            }
        }
        answer[row * entries() + i] = pair;
    }
}
