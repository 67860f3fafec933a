// The kept candidates with their logits, and the likeliest of the last row as the token that comes next.
//
// In: kept, [ROWS, KEPT] pairs of key and id; logits [ROWS, VOCABULARY]. Out: answer, [ROWS][step.entries] pairs of id and bits
// of the logit, the kept ones first, with the id 2³² − 1 where there are fewer; chosen, the one word.
// One workgroup for a row: grid (ROWS). Constants: VOCABULARY, KEPT, THREADS.

@group(0) @binding(0) var<storage, read> kept: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read_write> answer: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> chosen: array<u32>;
@group(0) @binding(4) var<uniform> step: Step;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = group.x;
    for (var i = local; i < KEPT; i += THREADS) {
        let found = kept[row * KEPT + i];
        var pair = vec2<u32>(0xffffffffu, 0u);
        // The key of a marked logit and of nobody.
        if found.x != 0u {
            pair = vec2<u32>(found.y, logits[row * VOCABULARY + found.y]);
            if i == 0u && row == groups.x - 1u {
                chosen[0] = found.y;
            }
        }
        answer[row * step.entries + i] = pair;
    }
}
