"""Writes and reads the GGUF files of this model: I2_S projections, an F16 embedding, F32 norm gains.

I2_S, layout A: codes 0, 1, 2 for -1, 0, +1; each 128 weights make 32 bytes, weight r of them in byte r mod 32 at bits
6 - 2 * (r div 32); after the codes of the whole tensor one f32 scale and 28 zero bytes.
"""

import struct

import numpy as np

ALIGN = 32
F32, F16, I2_S = 0, 1, 36
U32, FLOAT32, BOOL, STRING, ARRAY, INT32 = 4, 6, 7, 8, 9, 5


def ternary(w):
    """The absmean ternary codes -1, 0, 1 (int8) and the f32 scale of a float matrix; rounding is half-to-even."""
    w = np.asarray(w, dtype=np.float32)
    scale = np.float32(max(np.abs(w).mean(dtype=np.float64), 1e-5))
    codes = np.clip(np.rint(w * (np.float32(1) / scale)), -1, 1).astype(np.int8)
    return codes, scale


def encode_i2_s(codes, scale):
    flat = (np.asarray(codes).reshape(-1, 4, 32) + 1).astype(np.uint8)
    packed = flat[:, 0] << 6 | flat[:, 1] << 4 | flat[:, 2] << 2 | flat[:, 3]
    return packed.tobytes() + struct.pack("<f", scale) + bytes(28)


def decode_i2_s(data, shape):
    n = int(np.prod(shape))
    packed = np.frombuffer(data, dtype=np.uint8, count=n // 4).reshape(-1, 32)
    codes = np.stack([packed >> 6 & 3, packed >> 4 & 3, packed >> 2 & 3, packed & 3], axis=1).astype(np.int8) - 1
    return codes.reshape(shape), np.float32(struct.unpack_from("<f", data, n // 4)[0])


def _string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value):
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", U32, value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, np.ndarray):
        kind = {"float32": FLOAT32, "int32": INT32}[value.dtype.name]
        return struct.pack("<IIQ", ARRAY, kind, value.size) + value.astype("<" + value.dtype.str[1:]).tobytes()
    return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_string, value))


def write(path, metadata, tensors):
    """metadata: {key: value}; tensors: [(name, array or (codes, scale))], 2-D arrays as [out, in]."""
    infos, blobs, offset = b"", [], 0
    for name, tensor in tensors:
        if isinstance(tensor, tuple):
            kind, shape, blob = I2_S, tensor[0].shape, encode_i2_s(*tensor)
        else:
            kind = {"float32": F32, "float16": F16}[tensor.dtype.name]
            shape, blob = tensor.shape, np.ascontiguousarray(tensor).tobytes()
        infos += _string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        infos += struct.pack("<IQ", kind, offset)
        blob += bytes(-len(blob) % ALIGN)
        blobs.append(blob)
        offset += len(blob)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_string(key) + _value(value) for key, value in metadata.items()) + infos
    with open(path, "wb") as out:
        out.write(head + bytes(-len(head) % ALIGN) + b"".join(blobs))


def read(path):
    """(metadata, {name: array or (codes, scale)}) of a file written by `write`."""
    with open(path, "rb") as file:
        data = file.read()
    at = 0

    def take(fmt):
        nonlocal at
        values = struct.unpack_from("<" + fmt, data, at)
        at += struct.calcsize("<" + fmt)
        return values if len(values) > 1 else values[0]

    def string():
        nonlocal at
        n = take("Q")
        at += n
        return data[at - n:at].decode()

    scalars = {U32: "I", FLOAT32: "f", BOOL: "?", INT32: "i"}

    def value(kind):
        if kind == STRING:
            return string()
        if kind == ARRAY:
            item, n = take("I"), take("Q")
            return [value(item) for _ in range(n)]
        return take(scalars[kind])

    if take("4s") != b"GGUF" or take("I") != 3:
        raise ValueError(f"{path}: not a GGUF version 3 file")
    n_tensors, n_kv = take("Q"), take("Q")
    metadata = {}
    for _ in range(n_kv):
        key = string()
        metadata[key] = value(take("I"))
    infos = []
    for _ in range(n_tensors):
        name, dims = string(), take("I")
        shape = tuple(reversed([take("Q") for _ in range(dims)]))
        infos.append((name, shape, take("I"), take("Q")))
    start = at + -at % ALIGN
    tensors = {}
    for name, shape, kind, offset in infos:
        n, here = int(np.prod(shape)), start + offset
        if kind == I2_S:
            tensors[name] = decode_i2_s(data[here:here + n // 4 + 32], shape)
        else:
            dtype = {F32: "<f4", F16: "<f2"}[kind]
            tensors[name] = np.frombuffer(data, dtype=dtype, count=n, offset=here).reshape(shape)
    return metadata, tensors


def check():
    """The encoder against a vector computed elsewhere, and the quantizer against a matrix with ties."""
    codes = np.array([(7 * i + i // 5) % 3 - 1 for i in range(256)], dtype=np.int8)
    want = ("254294095025429409502542940950254294095025429409502542940950254209502542940950254294095025429409502542940950"
            "254294095025429409500000003f")
    assert encode_i2_s(codes, 0.5)[:68].hex() == want
    assert len(encode_i2_s(codes, 0.5)) == 256 // 4 + 32
    back, scale = decode_i2_s(encode_i2_s(codes, 0.5), (2, 128))
    assert (back.reshape(-1) == codes).all() and scale == 0.5
    codes, scale = ternary([[2, -1, 0.5, -0.5], [0, 0.25, -1.5, 2.25]])
    assert scale == 1 and codes.tolist() == [[1, -1, 0, 0], [0, 0, -1, 1]]


if __name__ == "__main__":
    check()
    print("I2_S vectors agree")
