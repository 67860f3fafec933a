//! The elements themselves: read, written, copied into row-major order, converted.

use crate::dispatch::with_type;
use crate::layout::{Layout, Runs};
use crate::pieces::in_pieces;
use crate::storage::fill;
use crate::zero_copy::{Conversion, Source, Target};
use crate::{BitNetDType, BitNetTensor, Element, refusal};
use bitnet_core::pool::Movement;
use bitnet_core::{Alignment, Result, simd};
use half::{bf16, f16};

impl BitNetTensor {
    /// The elements in row-major order.
    ///
    /// # Errors
    /// If `T` is not the element type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let data = self.elements::<T>("to_vec")?;
        let mut values = Vec::with_capacity(self.len());
        for_each_run(data, &self.layout, |run| match run {
            Run::Slice(slice) => values.extend_from_slice(slice),
            Run::Strided(run) => values.extend(run.copied()),
        });
        Ok(values)
    }

    /// The one element.
    ///
    /// # Errors
    /// If `T` is not the element type or there is not exactly one element.
    pub fn item<T: Element>(&self) -> Result<T> {
        match self.to_vec_if_one::<T>()? {
            Some(value) => Ok(value),
            None => Err(refusal::shape("item", "exactly one element", self.shape())),
        }
    }

    fn to_vec_if_one<T: Element>(&self) -> Result<Option<T>> {
        let data = self.elements::<T>("item")?;
        Ok((self.len() == 1).then(|| data[self.layout.offset]))
    }

    /// The elements where they lie, in row-major order.
    ///
    /// # Errors
    /// If `T` is not the element type or the tensor is not [contiguous](Self::is_contiguous).
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        let data = self.elements::<T>("as_slice")?;
        if !self.is_contiguous() {
            return Err(refusal::shape(
                &format!("as_slice with strides {:?}", self.strides()),
                "a contiguous tensor",
                self.shape(),
            ));
        }
        Ok(self.layout.row_major(data))
    }

    /// The elements to write to, in row-major order. Where other tensors share the storage, or it is borrowed or not
    /// contiguous, this tensor first gets a copy of its own; no other tensor ever sees the change.
    ///
    /// # Errors
    /// If `T` is not exactly the element type, or memory is short.
    pub fn make_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        if self.dtype != T::DTYPE {
            return Err(refusal::dtype("make_mut", T::DTYPE.name(), self.dtype));
        }
        self.elements_mut()
    }

    /// As [`make_mut`](Self::make_mut), for elements read as `T`.
    pub(crate) fn elements_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        let whole = self.is_contiguous() && !self.storage.is_borrowed();
        let in_place = whole && self.storage.get_mut().is_some();
        if in_place {
            self.track(Movement::InPlace);
        } else {
            *self = self.copied()?;
        }
        let (start, len) = (self.layout.offset, self.len());
        let data = match self.storage.get_mut() {
            Some(storage) => storage.elements_mut::<T>()?,
            None => &mut [],
        };
        let start = start.min(data.len());
        let len = len.min(data.len() - start);
        Ok(&mut data[start..start + len])
    }

    /// The same elements, row after row without gaps: this tensor itself if it is so already.
    ///
    /// # Errors
    /// If a copy is needed and memory is short.
    pub fn contiguous(&self) -> Result<Self> {
        if self.is_contiguous() {
            self.track(Movement::ZeroCopy);
            Ok(self.clone())
        } else {
            self.copied()
        }
    }

    /// A contiguous copy in the pool's memory.
    ///
    /// # Errors
    /// If memory is short.
    pub fn copied(&self) -> Result<Self> {
        self.track(Movement::Copy);
        with_type!(self.dtype, T => {
            let data = self.elements::<T>("copy")?;
            fill(self.layout.shape, self.dtype, self.device(), self.pool(), |out| {
                in_pieces([&self.layout], 1, out, |[layout], out| {
                    gather(data, layout, out);
                });
                Ok(())
            })
        })
    }

    /// Converts the elements; where their bits are those of the new type already, the result is a view.
    ///
    /// Floats round to the nearest (ties to even) and overflow to infinity; to integers they truncate towards 0 and
    /// saturate, NaN gives 0. Integers wrap in smaller ones. To bool, everything but 0 is true.
    ///
    /// # Errors
    /// If memory is short.
    pub fn to_dtype(&self, dtype: BitNetDType) -> Result<Self> {
        let plan = self.conversion(dtype).plan();
        self.track(plan.movement);
        if plan.movement == Movement::ZeroCopy {
            return Ok(Self {
                dtype,
                ..self.clone()
            });
        }
        if let Some(converted) = self.between_floats(dtype)? {
            return Ok(converted);
        }
        let integers = !self.dtype.is_float();
        with_type!(self.dtype, From => {
            let data = self.elements::<From>("to_dtype")?;
            if dtype == BitNetDType::Bool {
                let zero = From::from_i64(0);
                return self.convert(data, dtype, |x: From| u8::from(x != zero));
            }
            with_type!(dtype, To => {
                if integers {
                    self.convert(data, dtype, |x: From| To::from_i64(x.to_i64()))
                } else {
                    self.convert(data, dtype, |x: From| To::from_f64(x.to_f64()))
                }
            })
        })
    }

    /// From what this tensor is to a tensor of `dtype`, which may be a view but not take the storage over.
    fn conversion(&self, dtype: BitNetDType) -> Conversion {
        Conversion {
            source: Source {
                dtype: self.dtype,
                device: self.device(),
                contiguous: self.is_contiguous(),
                unique: false,
                address: 0, // Storage is aligned for its elements, and equal bits have equal sizes.
            },
            target: Target {
                dtype,
                device: self.device(),
                contiguous: false,
                writable: false,
                alignment: Alignment::default(),
            },
        }
    }

    /// Conversion of contiguous floats by the kernels, where there is one.
    fn between_floats(&self, dtype: BitNetDType) -> Result<Option<Self>> {
        macro_rules! by {
            ($kernel:path, $From:ty) => {{
                let data = self.elements::<$From>("to_dtype")?;
                fill(
                    self.layout.shape,
                    dtype,
                    self.device(),
                    self.pool(),
                    |out| {
                        in_pieces([&self.layout], 1, out, |[layout], out| {
                            $kernel(layout.row_major(data), out);
                        });
                        Ok(())
                    },
                )
            }};
        }
        if !self.is_contiguous() {
            return Ok(None);
        }
        Ok(Some(match (self.dtype, dtype) {
            (BitNetDType::F32, BitNetDType::F16) => by!(simd::f32_to_f16, f32)?,
            (BitNetDType::F32, BitNetDType::BF16) => by!(simd::f32_to_bf16, f32)?,
            (BitNetDType::F16, BitNetDType::F32) => by!(simd::f16_to_f32, f16)?,
            (BitNetDType::BF16, BitNetDType::F32) => by!(simd::bf16_to_f32, bf16)?,
            _ => return Ok(None),
        }))
    }

    fn convert<A: Element, B: Element>(
        &self,
        data: &[A],
        dtype: BitNetDType,
        f: impl Fn(A) -> B + Sync,
    ) -> Result<Self> {
        fill(
            self.layout.shape,
            dtype,
            self.device(),
            self.pool(),
            |out| {
                in_pieces([&self.layout], 1, out, |[layout], out| {
                    map(data, layout, out, &f);
                });
                Ok(())
            },
        )
    }

    /// Counts how the elements came to the tensor that is asked for.
    pub(crate) fn track(&self, movement: Movement) {
        self.pool().zero_copy().record(movement, self.bytes());
    }

    /// Bytes of the elements.
    fn bytes(&self) -> usize {
        self.len().saturating_mul(self.dtype.size())
    }

    /// The whole storage, which the layout's offsets index.
    pub(crate) fn elements<T: Element>(&self, op: &str) -> Result<&[T]> {
        if !T::reads(self.dtype) {
            return Err(refusal::dtype(op, T::DTYPE.name(), self.dtype));
        }
        self.storage.elements()
    }
}

/// Some of the elements of a view, in row-major order.
pub(crate) enum Run<'a, T> {
    /// Neighbours.
    Slice(&'a [T]),
    /// Elements apart from each other, or one repeated.
    Strided(Strided<'a, T>),
}

/// `left` elements, `stride` apart.
pub(crate) struct Strided<'a, T> {
    data: &'a [T],
    at: usize,
    stride: usize,
    left: usize,
}

impl<'a, T> Iterator for Strided<'a, T> {
    type Item = &'a T;
    #[inline(always)]
    fn next(&mut self) -> Option<&'a T> {
        self.left = self.left.checked_sub(1)?;
        let element = self.data.get(self.at);
        self.at = self.at.wrapping_add(self.stride);
        element
    }
}

/// The run of `len` elements from `start`.
pub(crate) fn run<T>(data: &[T], start: usize, len: usize, stride: usize) -> Run<'_, T> {
    match stride {
        1 => Run::Slice(&data[start..start + len]),
        _ => Run::Strided(Strided {
            data,
            at: start,
            stride,
            left: len,
        }),
    }
}

fn for_each_run<'a, T>(data: &'a [T], layout: &Layout, mut f: impl FnMut(Run<'a, T>)) {
    let runs = Runs::new([layout]);
    let (len, [stride]) = (runs.run_len(), runs.run_strides());
    for [start] in runs {
        f(run(data, start, len, stride));
    }
}

/// out ← f(elements in row-major order).
pub(crate) fn map<A: Copy, B>(data: &[A], layout: &Layout, out: &mut [B], f: impl Fn(A) -> B) {
    let runs = Runs::new([layout]);
    let (len, [stride]) = (runs.run_len(), runs.run_strides());
    for ([start], out) in runs.zip(out.chunks_mut(len.max(1))) {
        match run(data, start, len, stride) {
            Run::Slice(x) => out.iter_mut().zip(x).for_each(|(out, x)| *out = f(*x)),
            Run::Strided(x) => out.iter_mut().zip(x).for_each(|(out, x)| *out = f(*x)),
        }
    }
}

/// out ← elements in row-major order.
pub(crate) fn gather<T: Copy>(data: &[T], layout: &Layout, out: &mut [T]) {
    let runs = Runs::new([layout]);
    let (len, [stride]) = (runs.run_len(), runs.run_strides());
    for ([start], out) in runs.zip(out.chunks_mut(len.max(1))) {
        match run(data, start, len, stride) {
            Run::Slice(x) => out.copy_from_slice(x),
            Run::Strided(x) => out.iter_mut().zip(x).for_each(|(out, x)| *out = *x),
        }
    }
}
