// Part of the products that go through workgroup memory: both factors in blocks of 4 x 4.
//% include "product.wgsl"

override transpose_a: bool = false;

fn element_a(base: u32, row: u32, k: u32, end: u32) -> f32 {
    if row >= params.rows || k >= end {
        return 0.0;
    }
//% if window is defined
    if convolution == FORWARD || convolution == INPUT {
        let source = below(spot(row), tap_at(k / params.channels));
        if source < 0 {
            return 0.0;
        }
        return a[base + u32(source) * params.channels + k % params.channels];
    }
//% endif
    if transpose_a {
        return a[base + k * params.rows + row];
    }
    return a[base + row * params.inner + k];
}

fn element_b(base: u32, k: u32, col: u32, end: u32) -> f32 {
    if col >= params.cols || k >= end {
        return 0.0;
    }
//% if window is defined
    if convolution == WEIGHT {
        let source = below(spot(k), tap_at(col / params.channels));
        if source < 0 {
            return 0.0;
        }
        return b[base + u32(source) * params.channels + col % params.channels];
    }
    if convolution == INPUT {
        return b[base + (k % params.channels * params.taps + k / params.channels) * params.cols + col];
    }
//% endif
    if transpose_b {
        return b[base + col * params.inner + k];
    }
    return b[base + k * params.cols + col];
}

// Column i of a block holds op(a)[row .. row + 4, k + i].
fn block_a(base: u32, row: u32, k: u32, end: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
//% for i in range(4)
        element_a(base, row, k + {{ i }}u, end),
        element_a(base, row + 1u, k + {{ i }}u, end),
        element_a(base, row + 2u, k + {{ i }}u, end),
        element_a(base, row + 3u, k + {{ i }}u, end),
//% endfor
    );
}

// Column i of a block holds op(b)[k + i, col .. col + 4].
fn block_b(base: u32, col: u32, k: u32, end: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
//% for i in range(4)
        element_b(base, k + {{ i }}u, col, end),
        element_b(base, k + {{ i }}u, col + 1u, end),
        element_b(base, k + {{ i }}u, col + 2u, end),
        element_b(base, k + {{ i }}u, col + 3u, end),
//% endfor
    );
}

//% if window is defined
//% for factor in ["a", "b"]
fn {{ factor }}_below(base: u32, source: i32) -> vec4<f32> {
    if source < 0 {
        return vec4<f32>();
    }
    return {{ factor }}_quads[base + u32(source) * (params.channels / 4u)];
}

//% endfor
//% endif
// Where rows are whole quads, a block is four loads. What lies past the last row or column repeats the last quad, and
// is not stored.
//% for factor, extent in [("a", "rows"), ("b", "cols")]
fn block_{{ factor }}_quads(base: u32, line: u32, k: u32, end: u32) -> mat4x4<f32> {
    if k >= end {
        return mat4x4<f32>();
    }
//% if window is defined
//% if factor == "a"
    if convolution == FORWARD || convolution == INPUT {
        // Channels are whole quads, so that a block lies below one tap.
        let tap = tap_at(k / params.channels);
        let from_quad = base / 4u + k % params.channels / 4u;
        let last_row = params.rows - 1u;
        return transpose(mat4x4<f32>(
            a_below(from_quad, below(spot(min(line, last_row)), tap)),
            a_below(from_quad, below(spot(min(line + 1u, last_row)), tap)),
            a_below(from_quad, below(spot(min(line + 2u, last_row)), tap)),
            a_below(from_quad, below(spot(min(line + 3u, last_row)), tap)),
        ));
    }
//% else
    if convolution == WEIGHT {
        let col = min(line, params.cols - 4u);
        let tap = tap_at(col / params.channels);
        let from_quad = base / 4u + col % params.channels / 4u;
        return mat4x4<f32>(
            b_below(from_quad, below(spot(k), tap)),
            b_below(from_quad, below(spot(k + 1u), tap)),
            b_below(from_quad, below(spot(k + 2u), tap)),
            b_below(from_quad, below(spot(k + 3u), tap)),
        );
    }
    if convolution == INPUT {
        let pitch = params.cols / 4u;
        let step = params.taps * pitch;
        let at = base / 4u + k % params.channels * step + k / params.channels * pitch + min(line / 4u, pitch - 1u);
        return mat4x4<f32>(b_quads[at], b_quads[at + step], b_quads[at + 2u * step], b_quads[at + 3u * step]);
    }
//% endif
//% endif
    if {{ "transpose_a" if factor == "a" else "!transpose_b" }} {
        let pitch = params.{{ extent }} / 4u;
        let at = base / 4u + k * pitch + min(line / 4u, pitch - 1u);
        return mat4x4<f32>(
            {{ factor }}_quads[at],
            {{ factor }}_quads[at + pitch],
            {{ factor }}_quads[at + 2u * pitch],
            {{ factor }}_quads[at + 3u * pitch],
        );
    }
    let last = params.{{ extent }} - 1u;
    let pitch = params.inner / 4u;
    let at = base / 4u + k / 4u;
    return transpose(mat4x4<f32>(
        {{ factor }}_quads[at + min(line, last) * pitch],
        {{ factor }}_quads[at + min(line + 1u, last) * pitch],
        {{ factor }}_quads[at + min(line + 2u, last) * pitch],
        {{ factor }}_quads[at + min(line + 3u, last) * pitch],
    ));
}

//% endfor
