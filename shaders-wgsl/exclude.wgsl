// Takes listed tokens out of the logits: each listed logit that is a finite number goes to the answer, and a mark to its
// place. Those that are not finite stay, to be found (top.wgsl).
//
// In: ids [count, then count of them]; logits [ROWS, VOCABULARY]. Out: answer, [ROWS][step.entries] pairs of id and bits of the
// logit, the listed ones from place KEPT on. Grid (⌈count / THREADS⌉, ROWS).
// Constants: VOCABULARY, KEPT, THREADS.

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read_write> logits: array<u32>;
@group(0) @binding(2) var<storage, read_write> answer: array<vec2<u32>>;
@group(0) @binding(3) var<uniform> step: Step;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) place: vec3<u32>) {
    let row = place.y;
    if place.x >= ids[0] {
        return;
    }
    let id = ids[1u + place.x];
    let bits = logits[row * VOCABULARY + id];
    answer[row * step.entries + KEPT + place.x] = vec2<u32>(id, bits);
    if (bits & 0x7f800000u) != 0x7f800000u {
        logits[row * VOCABULARY + id] = MARK;
    }
}
