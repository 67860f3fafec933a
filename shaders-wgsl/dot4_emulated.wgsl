// Four signed bytes times four signed bytes, added up: exact, for devices without the language feature
// packed_4x8_integer_dot_product.

fn bytes_of(word: u32) -> vec4<i32> {
    let signed = bitcast<i32>(word);
    return vec4<i32>(
        extractBits(signed, 0u, 8u),
        extractBits(signed, 8u, 8u),
        extractBits(signed, 16u, 8u),
        extractBits(signed, 24u, 8u),
    );
}

fn dot4(a: u32, b: u32) -> i32 {
    return dot(bytes_of(a), bytes_of(b));
}
