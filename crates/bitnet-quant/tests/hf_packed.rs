//! Four rows in one: the packed weights of Hugging Face checkpoints.

#![allow(clippy::unwrap_used)]

use bitnet_quant::{QuantError, WeightScale, hf_packed};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn packing_comes_back((rows, cols, codes) in (0usize..10, 0usize..9).prop_flat_map(|(rows, cols)| {
        (Just(rows), Just(cols), vec(-1i8..=1, rows * cols))
    })) {
        let packed = hf_packed::pack(&codes, rows, cols).unwrap();
        prop_assert_eq!(Some(packed.len()), hf_packed::packed_len(rows, cols));
        let mut found = vec![9; codes.len()];
        hf_packed::unpack(&packed, rows, cols, &mut found).unwrap();
        prop_assert_eq!(&found, &codes);
        let mut row = vec![9; cols];
        for r in 0..rows {
            hf_packed::unpack_row(&packed, rows, cols, r, &mut row).unwrap();
            prop_assert_eq!(&row, &codes[r * cols..(r + 1) * cols]);
        }
    }
}

#[test]
fn packing_refuses_what_does_not_fit() {
    let shape = |result| {
        assert!(
            matches!(result, Err(QuantError::Shape { .. })),
            "{result:?}"
        )
    };
    let mut out = [0; 12];
    shape(hf_packed::unpack(&[0; 4], 3, 4, &mut out[..11]));
    shape(hf_packed::unpack(&[0; 5], 3, 4, &mut out));
    shape(hf_packed::unpack(&[0; 4], usize::MAX, 4, &mut out));
    shape(hf_packed::unpack_row(&[0; 4], 3, 4, 2, &mut out));
    shape(hf_packed::pack(&[0; 11], 3, 4).map(|_| ()));
    shape(hf_packed::pack(&[0; 11], usize::MAX, usize::MAX).map(|_| ()));
    hf_packed::unpack(&[], usize::MAX, 0, &mut []).unwrap();
    assert!(hf_packed::unpack_row(&[0; 4], 3, 4, 3, &mut out[..4]).is_err());
    // Row 2 of 3 is field 2; the padding in field 3 is nobody's.
    let refused = QuantError::Code {
        what: "packed weight",
        index: 9,
        code: 3,
    };
    assert_eq!(
        hf_packed::unpack(&[0, 0b00_11_00_00, 0, 0], 3, 4, &mut out),
        Err(refused)
    );
    hf_packed::unpack(&[0, 0b11_00_00_00, 0, 0], 3, 4, &mut out).unwrap();
    assert!(hf_packed::pack(&[0, 0, 2], 3, 1).is_err());
}

#[test]
fn weight_scales_multiply_or_divide() {
    assert_eq!(WeightScale::Multiply.factor(1.5), Ok(1.5));
    assert_eq!(WeightScale::Divide.factor(32.0), Ok(0.03125));
    for meaning in [WeightScale::Multiply, WeightScale::Divide] {
        for bad in [0.0, -0.0, f32::NAN, f32::INFINITY] {
            assert!(meaning.factor(bad).is_err(), "{meaning:?} {bad}");
        }
    }
    assert!(WeightScale::Divide.factor(1e-40).is_err());
}
