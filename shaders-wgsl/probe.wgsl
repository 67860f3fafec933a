// Whether a subgroup is LANES neighbouring invocations of a workgroup: each invocation stores the size of its subgroup and
// the least and the greatest index in it. One workgroup.
//
// Constant: THREADS.

@group(0) @binding(0) var<storage, read_write> seen: array<vec4<u32>>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) local: u32) {
    seen[local] = vec4<u32>(subgroupAdd(1u), subgroupMin(local), subgroupMax(local), 0u);
}
