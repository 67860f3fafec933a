//! Convolution over one axis: every group of channels is unfolded to a matrix of windows and multiplied by its
//! weights.

use crate::gemm::{Matrix, gemm};
use crate::storage::fill;
use crate::{BitNetDType, BitNetTensor, Dims, refusal};
use bitnet_core::{Result, Tag};

/// How [`BitNetTensor::conv1d`] moves its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv1d {
    /// Positions between neighbouring windows; at least 1.
    pub stride: usize,
    /// Zeros before the first and after the last position.
    pub padding: usize,
    /// Positions between neighbouring elements of a window; at least 1.
    pub dilation: usize,
    /// Into how many parts the channels fall that see nothing of each other; at least 1.
    pub groups: usize,
}

impl Default for Conv1d {
    /// Stride 1, no padding, no dilation, one group.
    fn default() -> Self {
        Self {
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
        }
    }
}

/// Checked sizes of one convolution.
struct Sizes {
    batch: usize,
    channels_in: usize,
    length_in: usize,
    channels_out: usize,
    window: usize,
    length_out: usize,
}

impl BitNetTensor {
    /// Cross-correlation `[batch, channels, length]` with `weight` `[out, channels / groups, window]`, plus `bias` `[out]`:
    /// `[batch, out, length']`, with length' = (length + 2·padding − dilation·(window − 1) − 1) / stride + 1.
    ///
    /// ```
    /// # use bitnet_core::{Device, HybridMemoryPool};
    /// # use bitnet_tensor::{BitNetDType, BitNetTensor, Conv1d};
    /// # fn main() -> bitnet_core::Result<()> {
    /// # let (device, pool) = (Device::Cpu, HybridMemoryPool::global());
    /// let x = BitNetTensor::ones(&[1, 3, 10], BitNetDType::F32, &device, pool)?;
    /// let weight = BitNetTensor::ones(&[3, 3, 3], BitNetDType::F32, &device, pool)?;
    /// let bias = BitNetTensor::from_slice(&[0f32, 1.0, 2.0], &[3], &device, pool)?;
    /// let y = x.conv1d(&weight, Some(&bias), Conv1d::default())?;
    /// assert_eq!(y.shape(), [1, 3, 8]);
    /// assert_eq!(y.select(1, 2)?.to_vec::<f32>()?, [11.0; 8]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the shapes or options do not fit, the window is longer than the padded input, the types differ or are no
    /// floats, or memory is short.
    pub fn conv1d(&self, weight: &Self, bias: Option<&Self>, options: Conv1d) -> Result<Self> {
        const OP: &str = "conv1d";
        for other in [Some(weight), bias].into_iter().flatten() {
            if other.dtype != self.dtype {
                return Err(refusal::dtypes(OP, self.dtype, other.dtype));
            }
        }
        match self.dtype {
            BitNetDType::F32 => {}
            found if !found.is_float() => return Err(refusal::dtype(OP, "a float", found)),
            narrow => {
                let wide = |tensor: &Self| tensor.to_dtype(BitNetDType::F32);
                let bias = bias.map(wide).transpose()?;
                return wide(self)?
                    .conv1d(&wide(weight)?, bias.as_ref(), options)?
                    .to_dtype(narrow);
            }
        }
        let sizes = self.conv1d_sizes(weight, bias, options)?;
        let (input, weight) = (self.contiguous()?, weight.contiguous()?);
        let bias = bias.map(Self::contiguous).transpose()?;
        let (x, w) = (input.as_slice::<f32>()?, weight.as_slice::<f32>()?);
        let b = bias.as_ref().map(Self::as_slice::<f32>).transpose()?;

        let shape = Dims::new(&[sizes.batch, sizes.channels_out, sizes.length_out])?;
        let group_in = sizes.channels_in / options.groups;
        let group_out = sizes.channels_out / options.groups;
        let depth = group_in * sizes.window;
        let unfolded = depth
            .checked_mul(sizes.length_out)
            .ok_or_else(|| refusal::shape(OP, "windows that memory can hold", self.shape()))?;
        fill(shape, self.dtype, self.device(), self.pool(), |out| {
            if out.is_empty() {
                return Ok(());
            }
            let mut windows = self.pool().buffer::<f32>(unfolded, Tag::Scratch)?;
            let pieces = out.chunks_exact_mut(group_out * sizes.length_out);
            for (piece, out) in pieces.enumerate() {
                let group = piece % options.groups;
                let x = &x[piece * group_in * sizes.length_in..][..group_in * sizes.length_in];
                unfold(x, &mut windows, &sizes, options);
                let weights = Matrix {
                    data: w,
                    offset: group * group_out * depth,
                    strides: [depth, 1],
                };
                let windows = Matrix {
                    data: &windows,
                    offset: 0,
                    strides: [sizes.length_out, 1],
                };
                gemm(weights, windows, out, [group_out, sizes.length_out, depth]);
                let Some(bias) = b else {
                    continue;
                };
                let bias = &bias[group * group_out..];
                for (out, bias) in out.chunks_exact_mut(sizes.length_out).zip(bias) {
                    out.iter_mut().for_each(|out| *out += bias);
                }
            }
            Ok(())
        })
    }

    fn conv1d_sizes(&self, weight: &Self, bias: Option<&Self>, options: Conv1d) -> Result<Sizes> {
        const OP: &str = "conv1d";
        let Conv1d {
            stride,
            padding,
            dilation,
            groups,
        } = options;
        if stride == 0 || dilation == 0 || groups == 0 {
            return Err(refusal::argument(
                OP.into(),
                "stride, dilation and groups of at least 1",
                format!("{options:?}"),
            ));
        }
        let misfit = || {
            refusal::shapes(
                &format!("{OP} in {groups} groups"),
                "[batch, channels, length] and [out, channels / groups, window], groups dividing out",
                &self.layout.shape,
                &weight.layout.shape,
            )
        };
        let &[batch, channels_in, length_in] = self.shape().as_array().ok_or_else(misfit)?;
        let &[channels_out, channels, window] = weight.shape().as_array().ok_or_else(misfit)?;
        if channels.checked_mul(groups) != Some(channels_in)
            || !channels_out.is_multiple_of(groups)
            || window == 0
        {
            return Err(misfit());
        }
        if let Some(bias) = bias
            && bias.shape() != [channels_out]
        {
            return Err(refusal::shape(
                "conv1d: bias",
                format!("shape [{channels_out}]"),
                bias.shape(),
            ));
        }
        // Positions that a window spans, after its first.
        let span = dilation.checked_mul(window - 1);
        let padded = padding
            .checked_mul(2)
            .and_then(|p| p.checked_add(length_in));
        let length_out = span
            .zip(padded)
            .and_then(|(span, padded)| padded.checked_sub(1)?.checked_sub(span))
            .map(|last| last / stride + 1)
            .ok_or_else(|| {
                refusal::shapes(
                    &format!("{OP} with {options:?}"),
                    "a window within the padded input",
                    &self.layout.shape,
                    &weight.layout.shape,
                )
            })?;
        Ok(Sizes {
            batch,
            channels_in,
            length_in,
            channels_out,
            window,
            length_out,
        })
    }
}

/// Row `channel · window + i` of `windows` holds element `i` of every window over that channel of `x`.
fn unfold(x: &[f32], windows: &mut [f32], sizes: &Sizes, options: Conv1d) {
    for (row, out) in windows.chunks_exact_mut(sizes.length_out).enumerate() {
        let (channel, i) = (row / sizes.window, row % sizes.window);
        let channel = &x[channel * sizes.length_in..][..sizes.length_in];
        for (position, out) in out.iter_mut().enumerate() {
            // Without overflow: at most the padded length.
            let at = position * options.stride + i * options.dilation;
            let at = at.checked_sub(options.padding);
            *out = at.and_then(|at| channel.get(at)).copied().unwrap_or(0.0);
        }
    }
}
