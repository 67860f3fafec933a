//! Memory of ours, lent to MLX for as long as an array needs it.
//!
//! On a Mac, GPU and processor share memory, and MLX takes whole pages without copying them: of a mapped file those that the
//! numbers lie in. On Linux's CPUs MLX copies what it is given, and gives the original back at once.

use super::thread::MlxThreadToken;
use super::{dimension, failed};
use crate::pool::Movement;
use crate::{Error, Result};
use bytes::Bytes;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};
use std::ffi::c_void;
use std::ops::Range;

/// A page of Apple Silicon.
const PAGE: usize = 16 << 10;

/// The elements of `bytes` as an array of `shape`, and whether it is the same memory. `bytes` live until MLX needs them no
/// more; `in_pages` says that they lie in pages that may be shared as a whole: those of a mapped file, or of a pool.
///
/// # Errors
/// [`Error::Shape`] if there are not as many bytes as the shape says, or more elements than MLX counts;
/// [`Error::Mlx`].
pub(super) fn lend(
    mlx: &MlxThreadToken,
    (bytes, in_pages): (Bytes, bool),
    dtype: Dtype,
    shape: &[usize],
) -> Result<(Array, Movement)> {
    let size = size_of_element(dtype);
    let elements = shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n));
    if elements.and_then(|n| n.checked_mul(size)) != Some(bytes.len()) || bytes.is_empty() {
        return Err(Error::Shape {
            what: "memory for MLX".into(),
            expected: format!("{shape:?} elements of {size} bytes"),
            found: format!("{} bytes", bytes.len()),
        });
    }
    let original = bytes.as_ptr();
    let pages = pages_around(&bytes, size, in_pages);
    let start = (bytes.as_ptr() as usize - pages.start) / size;
    let all = dimension(pages.len() / size)?;
    let payload = Box::into_raw(Box::new(bytes));
    // SAFETY: `pages` are bytes of this process that can be read (see `pages_around`), and those of them that MLX reads live until
    // it hands the payload to `give_back`, once. It does not write to memory it is given: only arrays that it can tell nobody else
    // uses are written to, and it counts lent memory as somebody's. On errors the payload is not known to have been given
    // back, and is lost rather than freed twice.
    let array = unsafe {
        mlx_sys::mlx_array_new_data_managed_payload(
            pages.start as *mut c_void,
            &raw const all,
            1,
            dtype.into(),
            payload.cast(),
            Some(give_back),
        )
    };
    if array.ctx.is_null() {
        return Err(Error::Mlx {
            why: format!("no memory for an array of {} bytes", pages.len()),
        });
    }
    // SAFETY: a new array that nobody else has.
    let array = unsafe { Array::from_ptr(array) };
    let (first, end) = (dimension(start)?, dimension(start + elements.unwrap_or(0))?);
    let shape = shape.iter().map(|n| dimension(*n));
    let shape = shape.collect::<Result<Vec<i32>>>()?;
    let view = array.try_index(first..end).map_err(failed)?;
    let view = view.reshape(&shape).map_err(failed)?;
    view.eval().map_err(failed)?;
    let movement = if address(mlx, &view) == Some(original) {
        Movement::ZeroCopy
    } else {
        Movement::Copy
    };
    Ok((view, movement))
}

/// Bytes of an element.
fn size_of_element(dtype: Dtype) -> usize {
    match dtype {
        Dtype::Bool | Dtype::Uint8 | Dtype::Int8 => 1,
        Dtype::Float16 | Dtype::Bfloat16 | Dtype::Uint16 | Dtype::Int16 => 2,
        Dtype::Float32 | Dtype::Uint32 | Dtype::Int32 => 4,
        _ => 8,
    }
}

/// The addresses of the pages in which `bytes` lie, where MLX takes whole pages, if these may be shared and elements of
/// `size` bytes fill them; else those of the bytes.
fn pages_around(bytes: &Bytes, size: usize, in_pages: bool) -> Range<usize> {
    let start = bytes.as_ptr() as usize;
    let end = start + bytes.len();
    let whole = start / PAGE * PAGE..end.next_multiple_of(PAGE);
    let aligned = (start - whole.start).is_multiple_of(size);
    if cfg!(target_os = "macos") && in_pages && aligned {
        whole
    } else {
        start..end
    }
}

/// Where the elements of an evaluated array begin.
fn address(_: &MlxThreadToken, array: &Array) -> Option<*const u8> {
    let pointer: *const u8 = match array.dtype() {
        // SAFETY: the array lives, and was evaluated.
        Dtype::Float32 => unsafe { mlx_sys::mlx_array_data_float32(array.as_ptr()) }.cast(),
        // SAFETY: as above.
        Dtype::Float16 => unsafe { mlx_sys::mlx_array_data_float16(array.as_ptr()) }.cast(),
        // SAFETY: as above.
        Dtype::Bfloat16 => unsafe { mlx_sys::mlx_array_data_bfloat16(array.as_ptr()) }.cast(),
        // SAFETY: as above.
        Dtype::Uint32 => unsafe { mlx_sys::mlx_array_data_uint32(array.as_ptr()) }.cast(),
        _ => return None,
    };
    Some(pointer)
}

/// What MLX calls when it needs a payload no more.
extern "C" fn give_back(payload: *mut c_void) {
    // SAFETY: `lend` made it of a box, and MLX calls this once for it.
    drop(unsafe { Box::from_raw(payload.cast::<Bytes>()) });
}
