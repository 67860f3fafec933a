//! Layers over candle tensors that candle-core leaves to its companion crate: norms, softmax, a convolution
//! with bias. They are what the same layers of `BitNetTensor` are compared with.

use candle_core::{D, Result, Tensor, bail};

/// Normalizes over the trailing dimensions `normalized_shape`: (x − mean) / √(variance + eps), the variance being
/// the mean of squared differences, then `· weight + bias` where given, each of shape `normalized_shape`.
///
/// # Errors
/// If `normalized_shape` is empty or not the end of the input's shape, a parameter has another shape, or `eps` is
/// not positive.
pub fn layer_norm(
    input: &Tensor,
    normalized_shape: &[usize],
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let dims = input.dims();
    if normalized_shape.is_empty() || !dims.ends_with(normalized_shape) {
        bail!(
            "layer_norm: expected an input whose shape ends with {normalized_shape:?}, found {dims:?}"
        );
    }
    for (name, parameter) in [("weight", weight), ("bias", bias)] {
        if let Some(parameter) = parameter
            && parameter.dims() != normalized_shape
        {
            bail!(
                "layer_norm: expected a {name} of shape {normalized_shape:?}, found {:?}",
                parameter.dims()
            );
        }
    }
    if eps.is_nan() || eps <= 0.0 {
        bail!("layer_norm: expected a positive eps, found {eps}");
    }

    // The normalized dimensions as one, so that a mean is one reduction.
    let leading = &dims[..dims.len() - normalized_shape.len()];
    let width = normalized_shape.iter().product::<usize>();
    if width == 0 {
        return Ok(input.clone());
    }
    let flat = [leading, &[width]].concat();
    let x = input.contiguous()?.reshape(flat)?;
    let mean = (x.sum_keepdim(D::Minus1)? / width as f64)?;
    let centered = x.broadcast_sub(&mean)?;
    let variance = (centered.sqr()?.sum_keepdim(D::Minus1)? / width as f64)?;
    let deviation = (variance + eps)?.sqrt()?;
    let mut y = centered.broadcast_div(&deviation)?.reshape(dims)?;
    if let Some(weight) = weight {
        y = y.broadcast_mul(weight)?;
    }
    if let Some(bias) = bias {
        y = y.broadcast_add(bias)?;
    }
    Ok(y)
}

/// Where a convolution's kernel stands on its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv1d {
    /// Zeros added at either end.
    pub padding: usize,
    /// Steps between two outputs.
    pub stride: usize,
    /// Steps between two elements of the kernel.
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Default for Conv1d {
    fn default() -> Self {
        Self {
            padding: 0,
            stride: 1,
            dilation: 1,
            groups: 1,
        }
    }
}

/// Convolves `[batch, channels in, length]` with `[channels out, channels in / groups, kernel]` and adds
/// `[channels out]`, giving `[batch, channels out, length out]`.
///
/// # Errors
/// If a rank or a number of channels does not fit, the kernel is longer than the padded input, or stride, dilation
/// or groups are zero.
pub fn conv1d(
    input: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    conv: Conv1d,
) -> Result<Tensor> {
    let (_, channels_in, length) = input.dims3()?;
    let (channels_out, group_in, kernel_length) = kernel.dims3()?;
    let fits = conv.groups > 0
        && group_in.checked_mul(conv.groups) == Some(channels_in)
        && channels_out.is_multiple_of(conv.groups);
    if !fits {
        bail!(
            "conv1d: {} groups cannot split an input of shape {:?} and a kernel of shape {:?}",
            conv.groups,
            input.dims(),
            kernel.dims()
        );
    }
    if conv.stride == 0 || conv.dilation == 0 {
        bail!("conv1d: expected a positive stride and dilation, found {conv:?}");
    }
    let reach = kernel_length
        .checked_sub(1)
        .and_then(|steps| steps.checked_mul(conv.dilation));
    let padded = conv
        .padding
        .checked_mul(2)
        .and_then(|both| both.checked_add(length));
    if !matches!((reach, padded), (Some(reach), Some(padded)) if reach < padded) {
        bail!(
            "conv1d: a kernel of shape {:?} with {conv:?} is empty or longer than an input of shape {:?}",
            kernel.dims(),
            input.dims()
        );
    }
    let y = input.conv1d(
        kernel,
        conv.padding,
        conv.stride,
        conv.dilation,
        conv.groups,
    )?;
    let Some(bias) = bias else { return Ok(y) };
    if bias.dims() != [channels_out] {
        bail!(
            "conv1d: expected a bias of shape [{channels_out}], found {:?}",
            bias.dims()
        );
    }
    // One number per channel, not per position: [out] becomes [1, out, 1].
    y.broadcast_add(&bias.reshape((1, channels_out, 1))?)
}

/// e^(xᵢ − max) / Σ e^(xⱼ − max) along the last dimension.
///
/// # Errors
/// If the input has no dimension, or an empty last one.
pub fn softmax(input: &Tensor) -> Result<Tensor> {
    let largest = input.max_keepdim(D::Minus1)?;
    let powers = input.broadcast_sub(&largest)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
}

/// x / √(mean(x²) + eps) · weight along the last dimension.
///
/// # Errors
/// If the input has no dimension, or `weight` another width.
pub fn rms_norm(input: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let square = input.sqr()?.mean_keepdim(D::Minus1)?;
    let root = (square + eps)?.sqrt()?;
    input.broadcast_div(&root)?.broadcast_mul(weight)
}

/// 1 / (1 + e⁻ˣ).
///
/// # Errors
/// If the elements are no floats.
pub fn sigmoid(input: &Tensor) -> Result<Tensor> {
    (input.neg()?.exp()? + 1.0)?.recip()
}
