//! The reference: every element looked up by its whole index.

use super::{CPU, pool};
use bitnet_tensor::BitNetTensor;
use proptest::prelude::*;

/// Elements in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Naive {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f64>,
}

/// Every index of a shape, in row-major order.
pub(crate) fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for &size in shape {
        all = all
            .into_iter()
            .flat_map(|index: Vec<usize>| {
                (0..size).map(move |i| {
                    let mut index = index.clone();
                    index.push(i);
                    index
                })
            })
            .collect();
    }
    all
}

impl Naive {
    pub(crate) fn from_fn(shape: &[usize], f: impl Fn(&[usize]) -> f64) -> Self {
        Self {
            shape: shape.to_vec(),
            data: indices(shape).iter().map(|index| f(index)).collect(),
        }
    }

    pub(crate) fn at(&self, index: &[usize]) -> f64 {
        let place = index.iter().zip(&self.shape).fold(0, |place, (i, size)| {
            assert!(i < size);
            place * size + i
        });
        self.data[place]
    }

    /// The element that broadcasts to `index`.
    pub(crate) fn broadcast_at(&self, index: &[usize]) -> f64 {
        let index = &index[index.len() - self.shape.len()..];
        let own: Vec<usize> = index
            .iter()
            .zip(&self.shape)
            .map(|(i, size)| if *size == 1 { 0 } else { *i })
            .collect();
        self.at(&own)
    }

    pub(crate) fn of(tensor: &BitNetTensor) -> Self {
        Self {
            shape: tensor.shape().to_vec(),
            data: tensor
                .to_vec::<f32>()
                .unwrap()
                .into_iter()
                .map(f64::from)
                .collect(),
        }
    }

    pub(crate) fn tensor(&self) -> BitNetTensor {
        let values: Vec<f32> = self.data.iter().map(|x| *x as f32).collect();
        BitNetTensor::from_slice(&values, &self.shape, CPU, pool()).unwrap()
    }

    /// The shape that both broadcast to, by the rule as it is written.
    pub(crate) fn broadcast_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
        let rank = a.len().max(b.len());
        let size = |shape: &[usize], axis: usize| {
            let missing = rank - shape.len();
            if axis < missing {
                1
            } else {
                shape[axis - missing]
            }
        };
        (0..rank)
            .map(|axis| match (size(a, axis), size(b, axis)) {
                (x, y) if x == y => Some(x),
                (1, y) => Some(y),
                (x, 1) => Some(x),
                _ => None,
            })
            .collect()
    }
}

/// Small whole numbers, so that f32 sums and products are exact.
fn number(seed: u64, place: usize) -> f64 {
    let mixed = (seed ^ place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (mixed % 19) as f64 - 9.0
}

pub(crate) fn shapes() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(prop_oneof![8 => 1usize..5, 1 => Just(0usize)], 0..5)
}

/// A tensor of that shape whose strides are those of some view: `twist` says which.
pub(crate) fn twisted(shape: &[usize], seed: u64, twist: u8) -> (BitNetTensor, Naive) {
    let place = |index: &[usize]| index.iter().fold(0usize, |p, i| p * 7 + i);
    let naive = Naive::from_fn(shape, |index| number(seed, place(index)));
    let rank = shape.len();
    let tensor = match twist % 5 {
        // Axes reversed.
        1 => {
            let reversed: Vec<usize> = shape.iter().rev().copied().collect();
            let flip = |index: &[usize]| index.iter().rev().copied().collect::<Vec<_>>();
            let axes: Vec<i32> = (0..rank as i32).rev().collect();
            Naive::from_fn(&reversed, |index| naive.at(&flip(index)))
                .tensor()
                .permute(&axes)
                .unwrap()
        }
        // A window into something larger.
        2 if rank > 0 => {
            let larger: Vec<usize> = shape.iter().map(|size| size + 2).collect();
            let mut tensor = Naive::from_fn(&larger, |index| {
                let inside: Option<Vec<usize>> = index
                    .iter()
                    .zip(shape)
                    .map(|(i, size)| i.checked_sub(1).filter(|i| i < size))
                    .collect();
                inside.map_or(1e6, |index| naive.at(&index))
            })
            .tensor();
            for (axis, size) in shape.iter().enumerate() {
                tensor = tensor.narrow(axis as i32, 1, *size).unwrap();
            }
            tensor
        }
        // Every second element of the last axis.
        3 if rank > 0 => {
            let mut wider = shape.to_vec();
            wider[rank - 1] *= 2;
            Naive::from_fn(&wider, |index| {
                let mut index = index.to_vec();
                let odd = index[rank - 1] % 2 == 1;
                index[rank - 1] /= 2;
                if odd { 1e6 } else { naive.at(&index) }
            })
            .tensor()
            .slice_step(-1, .., 2)
            .unwrap()
        }
        _ => naive.tensor(),
    };
    (tensor, naive)
}

/// A tensor of any small shape with any strides, and what it holds.
pub(crate) fn tensors() -> impl Strategy<Value = (BitNetTensor, Naive)> {
    (shapes(), any::<u64>(), any::<u8>())
        .prop_map(|(shape, seed, twist)| twisted(&shape, seed, twist))
}

/// Two tensors whose shapes broadcast together, of any strides, some of them repeating.
pub(crate) fn pairs() -> impl Strategy<Value = [(BitNetTensor, Naive); 2]> {
    (
        shapes(),
        any::<[u64; 2]>(),
        any::<[u8; 2]>(),
        any::<[u8; 2]>(),
        any::<[usize; 2]>(),
    )
        .prop_map(|(shape, seeds, twists, ones, cuts)| {
            [0, 1].map(|side| {
                // Some axes are 1 on one side, and some of the first are missing.
                let mut shape = shape.clone();
                for (axis, size) in shape.iter_mut().enumerate() {
                    if ones[side] & !ones[1 - side] & (1 << axis) != 0 {
                        *size = 1;
                    }
                }
                let cut = if side == 0 {
                    0
                } else {
                    cuts[0] % (shape.len() + 1)
                };
                twisted(&shape[cut..], seeds[side], twists[side])
            })
        })
}
