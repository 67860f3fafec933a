//! Numbers of binary16 without instructions for them.

/// Widens an IEEE binary16.
#[inline(always)]
pub(super) fn widen_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // 2¹¹² moves the exponent's bias from 15 to 127 and normalises subnormals.
    let finite = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let special = magnitude | 0x7f80_0000;
    let value = if bits & 0x7c00 == 0x7c00 {
        special
    } else {
        finite
    };
    f32::from_bits(value | (u32::from(bits & 0x8000) << 16))
}
