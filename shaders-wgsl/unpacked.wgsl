// Codes of ternary weights (matrices.wgsl) as int8, and products of sixteen.

const HIGH: u32 = 0x80808080u;

// Sixteen codes less one, as int8; no byte borrows from the next.
fn unpacked(word: u32) -> vec4<u32> {
    let codes = (vec4<u32>(word) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(PAIRS);
    return ((codes | vec4<u32>(HIGH)) - vec4<u32>(0x01010101u)) ^ vec4<u32>(HIGH);
}

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot4(a.x, b.x) + dot4(a.y, b.y) + dot4(a.z, b.z) + dot4(a.w, b.w);
}
