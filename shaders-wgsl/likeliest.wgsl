// The likeliest of the last candidates with its logit: the answer, and the token that comes next in its sequence.
//
// In: candidates; logits [ROWS, VOCABULARY]. Out: answer, [ROWS][entries] pairs of id and bits of the logit, this one first,
// with the id 2³² − 1 if there is none; likeliest_of, a word for each sequence (asked.wgsl).
// One workgroup for a row: grid (ROWS). Constants: COUNT, VOCABULARY, THREADS (a power of two).

@group(0) @binding(1) var<storage, read> logits_of_all: array<u32>;
@group(0) @binding(2) var<storage, read_write> answer: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> likeliest_of: array<u32>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = group.x;
    var own = NOBODY;
    for (var i = local; i < COUNT; i += THREADS) {
        let next = candidate(row, i);
        if before(next, own) {
            own = next;
        }
    }
    own = likeliest_of_all(own, local);
    if local != 0u {
        return;
    }
    var pair = vec2<u32>(0xffffffffu, 0u);
    // The key of a marked logit and of nobody is 0.
    if own.x != 0u {
        pair = vec2<u32>(own.y, logits_of_all[row * VOCABULARY + own.y]);
        keep_likeliest(row, own.y);
    }
    answer[row * entries()] = pair;
}
