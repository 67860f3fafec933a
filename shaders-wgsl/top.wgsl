// The KEPT likeliest of each 1024 candidates, in their order: a bitonic sort in workgroup memory. Repeated until one
// workgroup is left.
//
// Out: [ROWS, workgroups, KEPT] pairs of key and id. Grid (⌈COUNT / 1024⌉, ROWS). Reads 4 or 8 bytes a candidate.
// Constants: COUNT, KEPT (at most 512). A workgroup has 256 invocations.

@group(0) @binding(1) var<storage, read_write> kept: array<vec2<u32>>;

const SORTED: u32 = 1024u;

var<workgroup> sorted: array<vec2<u32>, SORTED>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    for (var i = local; i < SORTED; i += 256u) {
        sorted[i] = candidate(group.y, group.x * SORTED + i);
    }
    workgroupBarrier();
    for (var run = 2u; run <= SORTED; run *= 2u) {
        for (var stride = run / 2u; stride > 0u; stride /= 2u) {
            for (var pair = local; pair < SORTED / 2u; pair += 256u) {
                let low = pair / stride * stride * 2u + pair % stride;
                let high = low + stride;
                let a = sorted[low];
                let b = sorted[high];
                let rising = (low & run) == 0u;
                if before(b, a) == rising {
                    sorted[low] = b;
                    sorted[high] = a;
                }
            }
            workgroupBarrier();
        }
    }
    for (var i = local; i < KEPT; i += 256u) {
        kept[(group.y * groups.x + group.x) * KEPT + i] = sorted[i];
    }
}
