// Takes listed tokens out of the logits: each listed logit that is a finite number goes to the answer, and a mark to its
// place. Those that are not finite stay, to be found (top.wgsl).
//
// In: the tokens listed for each row (asked.wgsl); logits [ROWS, VOCABULARY]. Out: answer, [ROWS][entries] pairs of id and bits of
// the logit, the listed ones from place KEPT on. Grid (⌈most of a row / THREADS⌉, ROWS).
// Constants: VOCABULARY, KEPT, THREADS.

@group(0) @binding(0) var<storage, read> asked: array<u32>;
@group(0) @binding(1) var<storage, read_write> logits: array<u32>;
@group(0) @binding(2) var<storage, read_write> answer: array<vec2<u32>>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) place: vec3<u32>) {
    let row = place.y;
    if place.x >= asked[7u + 4u * row] {
        return;
    }
    let id = asked[asked[6u + 4u * row] + place.x];
    let bits = logits[row * VOCABULARY + id];
    answer[row * asked[1] + KEPT + place.x] = vec2<u32>(id, bits);
    if (bits & 0x7f800000u) != 0x7f800000u {
        logits[row * VOCABULARY + id] = MARK;
    }
}
