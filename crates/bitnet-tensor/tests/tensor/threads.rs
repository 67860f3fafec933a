//! Threads share large results, which are the bits that one thread gives.

use super::{CPU, pool};
use bitnet_tensor::{BitNetDType, BitNetTensor};

/// One of every kind of operation, as bits, of tensors past the size from which results are shared.
fn results() -> Vec<Vec<u64>> {
    let x = BitNetTensor::randn(&[3, 257, 181], 1, CPU, pool()).unwrap();
    let y = BitNetTensor::randn(&[3, 257, 181], 2, CPU, pool()).unwrap();
    let row = BitNetTensor::randn(&[181], 3, CPU, pool()).unwrap();
    let column = BitNetTensor::randn(&[257, 1], 4, CPU, pool()).unwrap();
    let turned = x.transpose(0, 2).unwrap();
    let long = x.reshape(&[1, 3 * 257 * 181]).unwrap();
    let whole = x.mul_scalar(1000.0).unwrap();
    let whole = whole.to_dtype(BitNetDType::I32).unwrap();
    let mut sum = x.clone();
    sum.add_assign(&row).unwrap();
    let floats = [
        x.exp(),
        x.gelu(),
        x.ln(),
        turned.silu(),
        long.tanh(),
        x.add(&y),
        x.mul(&row),
        row.sub(&x),
        x.div(&column),
        turned.add(&y.transpose(0, 2).unwrap()),
        x.mul_scalar(0.3),
        turned.add_scalar(0.3),
        Ok(sum),
        x.softmax(-1),
        x.softmax(0),
        long.softmax(-1),
        turned.layer_norm(&[3], None, None, 1e-5),
        x.layer_norm(&[181], Some(&row), Some(&row), 1e-5),
        x.layer_norm(&[257, 181], None, None, 1e-5),
        x.rms_norm(&row, 1e-5),
        turned.contiguous(),
        x.to_dtype(BitNetDType::BF16).and_then(|half| half.exp()),
        turned.to_dtype(BitNetDType::F16),
        whole.add(&whole),
        whole.transpose(1, 2).unwrap().to_dtype(BitNetDType::I64),
    ];
    let bits = |tensor: bitnet_core::Result<BitNetTensor>| {
        let tensor = tensor.unwrap();
        match tensor.dtype() {
            BitNetDType::I32 | BitNetDType::I64 => {
                let wide = tensor.to_dtype(BitNetDType::I64).unwrap();
                let values = wide.to_vec::<i64>().unwrap();
                values.into_iter().map(|x| x as u64).collect()
            }
            _ => {
                let wide = tensor.to_dtype(BitNetDType::F32).unwrap();
                let values = wide.to_vec::<f32>().unwrap();
                values.into_iter().map(|x| x.to_bits().into()).collect()
            }
        }
    };
    floats.into_iter().map(bits).collect()
}

#[test]
fn large_results_are_the_same_bits_for_every_number_of_threads() {
    let on = |threads| {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(threads);
        threads.build().unwrap().install(results)
    };
    let alone = on(1);
    for threads in [2, 3, 7] {
        for (index, (found, expected)) in on(threads).iter().zip(&alone).enumerate() {
            assert!(found == expected, "operation {index} on {threads} threads");
        }
    }
}
