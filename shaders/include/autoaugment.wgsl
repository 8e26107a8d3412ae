// AutoAugment on an image in workgroup memory, by a workgroup of 256; see src/ops/autoaugment.rs. All of it is done in whole
// numbers.

const POLICY_STREAM = AUGMENT_STREAM + 1u;

const NOTHING = 0u;
const SHEAR_Y = 1u;
const TRANSLATE_X = 2u;
const TRANSLATE_Y = 3u;
const ROTATE = 4u;
const BRIGHTNESS = 5u;
const COLOR = 6u;
const CONTRAST = 7u;
const SHARPNESS = 8u;
const POSTERIZE = 9u;
const SOLARIZE = 10u;
const AUTO_CONTRAST = 11u;
const EQUALIZE = 12u;
const INVERT = 13u;

// The policy found on CIFAR-10: two operations a sub-policy, each with its probability in tenths and its magnitude of ten.
const CIFAR10 = array<vec3<u32>, 50>(
    vec3<u32>(INVERT, 1u, 0u), vec3<u32>(CONTRAST, 2u, 6u),
    vec3<u32>(ROTATE, 7u, 2u), vec3<u32>(TRANSLATE_X, 3u, 9u),
    vec3<u32>(SHARPNESS, 8u, 1u), vec3<u32>(SHARPNESS, 9u, 3u),
    vec3<u32>(SHEAR_Y, 5u, 8u), vec3<u32>(TRANSLATE_Y, 7u, 9u),
    vec3<u32>(AUTO_CONTRAST, 5u, 0u), vec3<u32>(EQUALIZE, 9u, 0u),
    vec3<u32>(SHEAR_Y, 2u, 7u), vec3<u32>(POSTERIZE, 3u, 7u),
    vec3<u32>(COLOR, 4u, 3u), vec3<u32>(BRIGHTNESS, 6u, 7u),
    vec3<u32>(SHARPNESS, 3u, 9u), vec3<u32>(BRIGHTNESS, 7u, 9u),
    vec3<u32>(EQUALIZE, 6u, 0u), vec3<u32>(EQUALIZE, 5u, 0u),
    vec3<u32>(CONTRAST, 6u, 7u), vec3<u32>(SHARPNESS, 6u, 5u),
    vec3<u32>(COLOR, 7u, 7u), vec3<u32>(TRANSLATE_X, 5u, 8u),
    vec3<u32>(EQUALIZE, 3u, 0u), vec3<u32>(AUTO_CONTRAST, 4u, 0u),
    vec3<u32>(TRANSLATE_Y, 4u, 3u), vec3<u32>(SHARPNESS, 2u, 6u),
    vec3<u32>(BRIGHTNESS, 9u, 6u), vec3<u32>(COLOR, 2u, 8u),
    vec3<u32>(SOLARIZE, 5u, 2u), vec3<u32>(INVERT, 0u, 0u),
    vec3<u32>(EQUALIZE, 2u, 0u), vec3<u32>(AUTO_CONTRAST, 6u, 0u),
    vec3<u32>(EQUALIZE, 2u, 0u), vec3<u32>(EQUALIZE, 6u, 0u),
    vec3<u32>(COLOR, 9u, 9u), vec3<u32>(EQUALIZE, 6u, 0u),
    vec3<u32>(AUTO_CONTRAST, 8u, 0u), vec3<u32>(SOLARIZE, 2u, 8u),
    vec3<u32>(BRIGHTNESS, 1u, 3u), vec3<u32>(COLOR, 7u, 0u),
    vec3<u32>(SOLARIZE, 4u, 5u), vec3<u32>(AUTO_CONTRAST, 9u, 0u),
    vec3<u32>(TRANSLATE_Y, 9u, 9u), vec3<u32>(TRANSLATE_Y, 7u, 9u),
    vec3<u32>(AUTO_CONTRAST, 9u, 0u), vec3<u32>(SOLARIZE, 8u, 3u),
    vec3<u32>(EQUALIZE, 8u, 0u), vec3<u32>(INVERT, 1u, 0u),
    vec3<u32>(TRANSLATE_Y, 7u, 9u), vec3<u32>(AUTO_CONTRAST, 9u, 0u),
);

// An image, a pixel a word: red, green and blue from the lowest byte on. As many as AutoAugment::MOST_PIXELS.
var<workgroup> picture: array<u32, 2000>;
// The next image, partial sums, or a map of bytes.
var<workgroup> spare: array<u32, 2000>;
// The two operations, as `choose` has them.
var<workgroup> chosen: array<vec3<u32>, 2>;
// By channel: the least and the largest value, and how many pixels have the latter.
var<workgroup> least: array<u32, 3>;
var<workgroup> largest: array<u32, 3>;
var<workgroup> with_largest: array<u32, 3>;

fn split(word: u32) -> vec3<u32> {
    return (vec3<u32>(word) >> vec3<u32>(0u, 8u, 16u)) & vec3<u32>(255u);
}

fn joined(colour: vec3<u32>) -> u32 {
    return colour.x | (colour.y << 8u) | (colour.z << 16u);
}

fn grey(colour: vec3<u32>) -> u32 {
    return (19595u * colour.x + 38470u * colour.y + 7471u * colour.z + 32768u) >> 16u;
}

// `from + share / 10 (colour - from)`, rounded down and kept between 0 and 255.
fn blend(source: vec3<u32>, colour: vec3<u32>, share: i32) -> vec3<u32> {
    let start = vec3<i32>(source);
    let tenths = 10 * start + share * (vec3<i32>(colour) - start);
    return vec3<u32>(clamp(tenths, vec3<i32>(0), vec3<i32>(2550)) / 10);
}

// The n-th operation for a row of the batch: which one, its magnitude, and whether it goes the other way.
fn choose(n: u32, row: u32, seed: u32) -> vec3<u32> {
    let draw = pcg4d(vec4<u32>(row, POLICY_STREAM, now.step, seed));
    let operation = CIFAR10[draw.x % 25u * 2u + n];
    let is_applied = (select(draw.y, draw.z, n == 1u) >> 8u) * 10u < operation.y << 24u;
    return select(vec3<u32>(), vec3<u32>(operation.x, operation.z, (draw.w >> (31u - n)) & 1u), is_applied);
}

// Where the pixel at (x, y) comes from, in units of 2^-16 as AutoAugment::turn has them.
fn source_of(operation: vec3<u32>, x: i32, y: i32) -> vec2<i32> {
    let magnitude = i32(operation.y);
    let sign = 1 - 2 * i32(operation.z);
    var at = vec2<i32>(x, y) * 65536 + 32768;
    switch operation.x {
        case SHEAR_Y: {
            at.y += sign * ((131072 * magnitude + 30) / 60 * x + (131072 * magnitude + 60) / 120);
        }
        case TRANSLATE_X: {
            at.x -= sign * (50 * i32(params.width) * magnitude / 993) * 65536;
        }
        case TRANSLATE_Y: {
            at.y -= sign * (50 * i32(params.height) * magnitude / 993) * 65536;
        }
        default: {
            let sine = sign * params.turn_sine;
            at.x = params.turn_cosine * x - sine * y + select(params.right_x, params.left_x, sign == 1);
            at.y = sine * x + params.turn_cosine * y + select(params.right_y, params.left_y, sign == 1);
        }
    }
    return at;
}

// The pixel that another image has at (x, y), black from outside.
fn moved(operation: vec3<u32>, x: u32, y: u32) -> u32 {
    let at = source_of(operation, i32(x), i32(y)) >> vec2<u32>(16u);
    // Below zero they are as large as can be.
    let row = u32(at.y);
    let col = u32(at.x);
    let is_inside = row < params.height && col < params.width;
    return select(0u, picture[select(0u, row * params.width + col, is_inside)], is_inside);
}

// The mean of a pixel, counted five times, and its neighbours; at the edge the pixel itself.
fn smoothed(x: u32, y: u32) -> vec3<u32> {
    let i = y * params.width + x;
    let own = split(picture[i]);
    let is_edge = x == 0u || y == 0u || x + 1u == params.width || y + 1u == params.height;
    // At the edge all nine are the pixel.
    let right = select(1u, 0u, is_edge);
    let down = select(params.width, 0u, is_edge);
    var sum = 5u * own + split(picture[i - right]) + split(picture[i + right]);
    sum += split(picture[i - down - right]) + split(picture[i - down]) + split(picture[i - down + right]);
    sum += split(picture[i + down - right]) + split(picture[i + down]) + split(picture[i + down + right]);
    return (2u * sum + 13u) / 26u;
}

// Makes `spare` the image.
fn replace_by_spare(lane: u32) {
    workgroupBarrier();
    for (var i = lane; i < params.height * params.width; i += 256u) {
        picture[i] = spare[i];
    }
    workgroupBarrier();
}

// The mean grey of the image, halves up.
fn mean_grey(lane: u32) -> u32 {
    let pixels = params.height * params.width;
    var sum = 0u;
    for (var i = lane; i < pixels; i += 256u) {
        sum += grey(split(picture[i]));
    }
    spare[lane] = sum;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if lane < half {
            spare[lane] += spare[lane + half];
        }
        workgroupBarrier();
    }
    return (2u * spare[0] + pixels) / (2u * pixels);
}

// Writes a map of each channel's values into `spare`, a lane a value. Counting without atomics: every lane looks at all pixels.
fn map_values(operation: u32, lane: u32) {
    let pixels = params.height * params.width;
    let value = vec3<u32>(lane);
    var smaller = vec3<u32>();
    var equal = vec3<u32>();
    for (var i = 0u; i < pixels; i++) {
        let colour = split(picture[i]);
        smaller += select(vec3<u32>(), vec3<u32>(1u), colour < value);
        equal += select(vec3<u32>(), vec3<u32>(1u), colour == value);
    }
//% for e in "xyz"
    if equal.{{ e }} > 0u && smaller.{{ e }} == 0u {
        least[{{ loop.index0 }}] = lane;
    }
    if equal.{{ e }} > 0u && smaller.{{ e }} + equal.{{ e }} == pixels {
        largest[{{ loop.index0 }}] = lane;
        with_largest[{{ loop.index0 }}] = equal.{{ e }};
    }
//% endfor
    workgroupBarrier();
    let low = vec3<u32>(least[0], least[1], least[2]);
    let high = vec3<u32>(largest[0], largest[1], largest[2]);
    var mapped = value;
    if operation == AUTO_CONTRAST {
        let stretched = 255u * (clamp(value, low, high) - low) / max(high - low, vec3<u32>(1u));
        mapped = select(value, stretched, high > low);
    } else {
        let step = (pixels - vec3<u32>(with_largest[0], with_largest[1], with_largest[2])) / 255u;
        let counted = min((step / 2u + smaller) / max(step, vec3<u32>(1u)), vec3<u32>(255u));
        mapped = select(value, counted, step > vec3<u32>());
    }
    spare[lane] = joined(mapped);
    workgroupBarrier();
}

// The n-th of the chosen operations.
fn change(n: u32, lane: u32) {
    let operation = workgroupUniformLoad(&chosen[n]);
    let pixels = params.height * params.width;
    let share = 10 + (1 - 2 * i32(operation.z)) * i32(operation.y);
    switch operation.x {
        case NOTHING: {}
        case SHEAR_Y, TRANSLATE_X, TRANSLATE_Y, ROTATE: {
            for (var i = lane; i < pixels; i += 256u) {
                spare[i] = moved(operation, i % params.width, i / params.width);
            }
            replace_by_spare(lane);
        }
        case SHARPNESS: {
            for (var i = lane; i < pixels; i += 256u) {
                spare[i] = joined(blend(smoothed(i % params.width, i / params.width), split(picture[i]), share));
            }
            replace_by_spare(lane);
        }
        case CONTRAST: {
            let mean = vec3<u32>(mean_grey(lane));
            for (var i = lane; i < pixels; i += 256u) {
                picture[i] = joined(blend(mean, split(picture[i]), share));
            }
            workgroupBarrier();
        }
        case AUTO_CONTRAST, EQUALIZE: {
            map_values(operation.x, lane);
            for (var i = lane; i < pixels; i += 256u) {
                let colour = split(picture[i]);
                picture[i] = (spare[colour.x] & 0xffu) | (spare[colour.y] & 0xff00u) | (spare[colour.z] & 0xff0000u);
            }
            workgroupBarrier();
        }
        default: {
            for (var i = lane; i < pixels; i += 256u) {
                picture[i] = joined(recoloured(operation, split(picture[i]), share));
            }
            workgroupBarrier();
        }
    }
}

// What depends on nothing but the pixel.
fn recoloured(operation: vec3<u32>, colour: vec3<u32>, share: i32) -> vec3<u32> {
    var result = 255u - colour;
    if operation.x == BRIGHTNESS || operation.x == COLOR {
        result = blend(select(vec3<u32>(), vec3<u32>(grey(colour)), operation.x == COLOR), colour, share);
    } else if operation.x == POSTERIZE {
        let cleared = vec3<u32>((8u * operation.y + 9u) / 18u);
        result = (colour >> cleared) << cleared;
    } else if operation.x == SOLARIZE {
        result = select(result, colour, 9u * colour < vec3<u32>(255u * (9u - operation.y)));
    }
    return result;
}
