//! Layer norm and convolution over candle tensors, against the same sums written out.

use bitnet_benchmarks::candle_ops::{Conv1d, conv1d, layer_norm};
use candle_core::{Device, Result, Tensor};

const EPS: f64 = 1e-5;

fn close(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(*found) - expected).abs();
        assert!(
            difference <= 1e-5 * expected.abs().max(1.0),
            "element {i}: found {found}, expected {expected}"
        );
    }
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

fn normalized(row: &[f64]) -> Vec<f64> {
    let mean = row.iter().sum::<f64>() / row.len() as f64;
    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
    row.iter()
        .map(|x| (x - mean) / (variance + EPS).sqrt())
        .collect()
}

#[test]
fn test_candle_layer_norm() -> Result<()> {
    let rows = [[1.0, 2.0, 3.0, 4.0], [-5.0, 0.0, 5.0, 20.0]];
    let weight = [0.5, 1.0, -2.0, 4.0];
    let bias = [0.0, 1.0, 2.0, 3.0];
    let input = Tensor::new(&rows.map(|row| row.map(|x| x as f32)), &Device::Cpu)?;
    let scale = Tensor::new(&weight.map(|x| x as f32), &Device::Cpu)?;
    let shift = Tensor::new(&bias.map(|x| x as f32), &Device::Cpu)?;

    let plain = layer_norm(&input, &[4], None, None, EPS)?;
    assert_eq!(plain.dims(), [2, 4]);
    let expected: Vec<f64> = rows.iter().flat_map(|row| normalized(row)).collect();
    close(&flat(&plain)?, &expected);

    let affine = layer_norm(&input, &[4], Some(&scale), Some(&shift), EPS)?;
    assert_eq!(affine.dims(), [2, 4]);
    let parameters = weight.iter().zip(&bias).cycle();
    let expected: Vec<f64> = expected
        .iter()
        .zip(parameters)
        .map(|(x, (weight, bias))| x * weight + bias)
        .collect();
    close(&flat(&affine)?, &expected);
    Ok(())
}

#[test]
fn layer_norm_takes_several_trailing_dimensions() -> Result<()> {
    let values: Vec<f32> = (0..24).map(|i| (i * i % 17) as f32).collect();
    let input = Tensor::from_vec(values.clone(), (2, 3, 4), &Device::Cpu)?;
    let found = layer_norm(&input, &[3, 4], None, None, EPS)?;
    assert_eq!(found.dims(), [2, 3, 4]);
    let values: Vec<f64> = values.into_iter().map(f64::from).collect();
    let expected: Vec<f64> = values.chunks(12).flat_map(normalized).collect();
    close(&flat(&found)?, &expected);
    // The same rows, met through a transposed view.
    let view = input.transpose(0, 1)?.contiguous()?.transpose(0, 1)?;
    close(
        &flat(&layer_norm(&view, &[3, 4], None, None, EPS)?)?,
        &expected,
    );
    Ok(())
}

#[test]
fn layer_norm_names_the_shapes_that_do_not_fit() -> Result<()> {
    let input = Tensor::zeros((2, 4), candle_core::DType::F32, &Device::Cpu)?;
    let short = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu)?;
    for (shape, weight, expected) in [
        (&[2][..], None, "[2], found [2, 4]"),
        (&[], None, "[], found [2, 4]"),
        (&[4], Some(&short), "weight of shape [4], found [3]"),
    ] {
        let error = layer_norm(&input, shape, weight, None, EPS)
            .expect_err("a shape that does not fit")
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}

#[test]
fn test_candle_convolution() -> Result<()> {
    let input: Vec<f32> = (0..30).map(|i| (i as f32 * 0.37).sin()).collect();
    let kernel: Vec<f32> = (0..27).map(|i| (i as f32 * 0.73).cos()).collect();
    let bias = [0.5f32, -1.0, 2.0];
    let found = conv1d(
        &Tensor::from_slice(&input, (1, 3, 10), &Device::Cpu)?,
        &Tensor::from_slice(&kernel, (3, 3, 3), &Device::Cpu)?,
        Some(&Tensor::from_slice(&bias, 3, &Device::Cpu)?),
        Conv1d::default(),
    )?;
    assert_eq!(found.dims(), [1, 3, 8]);
    let mut expected = Vec::new();
    for (out, bias) in bias.iter().enumerate() {
        for position in 0..8 {
            let products = (0..3).flat_map(|channel| {
                let (input, kernel) = (&input, &kernel);
                (0..3).map(move |k| {
                    f64::from(input[channel * 10 + position + k])
                        * f64::from(kernel[out * 9 + channel * 3 + k])
                })
            });
            expected.push(f64::from(*bias) + products.sum::<f64>());
        }
    }
    close(&flat(&found)?, &expected);
    Ok(())
}

#[test]
fn convolution_names_the_shapes_that_do_not_fit() -> Result<()> {
    let zeros = |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F32, &Device::Cpu);
    let input = zeros(&[1, 3, 10])?;
    let three = Conv1d {
        groups: 3,
        ..Conv1d::default()
    };
    for (kernel, bias, conv, expected) in [
        (vec![3, 2, 3], 3, Conv1d::default(), "[3, 2, 3]"),
        (vec![3, 3, 11], 3, Conv1d::default(), "[3, 3, 11]"),
        (vec![4, 1, 3], 4, three, "3 groups"),
        (
            vec![3, 3, 3],
            10,
            Conv1d::default(),
            "bias of shape [3], found [10]",
        ),
    ] {
        let error = conv1d(&input, &zeros(&kernel)?, Some(&zeros(&[bias])?), conv)
            .expect_err("shapes that do not fit")
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}
