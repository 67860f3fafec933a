// Sums and maxima over the LANES invocations that share a row, and over a whole workgroup, through workgroup memory:
// for devices without subgroup operations, or with subgroups of varying size. The interface of lanes_subgroup.wgsl.
//
// Constants: THREADS (invocations of a workgroup, a multiple of LANES), LANES (a power of two).

var<workgroup> lane_floats: array<vec2<f32>, THREADS>;
// Only what a kernel uses takes memory.
var<workgroup> lane_fours: array<vec4<f32>, THREADS>;
var<workgroup> lane_integers: array<i32, THREADS>;

fn lanes_sum_i32(value: i32, local: u32) -> i32 {
    lane_integers[local] = value;
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        if local % LANES < stride {
            lane_integers[local] += lane_integers[local + stride];
        }
        workgroupBarrier();
    }
    let sum = lane_integers[local / LANES * LANES];
    workgroupBarrier();
    return sum;
}

fn lanes_sum_vec4(value: vec4<f32>, local: u32) -> vec4<f32> {
    lane_fours[local] = value;
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        if local % LANES < stride {
            lane_fours[local] += lane_fours[local + stride];
        }
        workgroupBarrier();
    }
    let sum = lane_fours[local / LANES * LANES];
    workgroupBarrier();
    return sum;
}

fn workgroup_sum_max(value: vec2<f32>, local: u32) -> vec2<f32> {
    lane_floats[local] = value;
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        if local % LANES < stride {
            let other = lane_floats[local + stride];
            let mine = lane_floats[local];
            lane_floats[local] = vec2<f32>(mine.x + other.x, max(mine.y, other.y));
        }
        workgroupBarrier();
    }
    var total = lane_floats[0];
    for (var i = LANES; i < THREADS; i += LANES) {
        let next = lane_floats[i];
        total = vec2<f32>(total.x + next.x, max(total.y, next.y));
    }
    return total;
}

fn workgroup_sum_i32(value: i32, local: u32) -> i32 {
    let team = lanes_sum_i32(value, local);
    lane_integers[local] = team;
    workgroupBarrier();
    var total = 0;
    for (var i = 0u; i < THREADS; i += LANES) {
        total += lane_integers[i];
    }
    workgroupBarrier();
    return total;
}
