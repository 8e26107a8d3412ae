//! From an operation and its variant to a kernel: entry point, pipeline constants, parameters, size of the grid.

use std::borrow::Cow;
use std::f64::consts::LOG2_E;

use super::shaders::PipelineKey;
use crate::ops::{
    Activation, Augment, AutoAugment, Cell, Chain, ColumnSum, Convolution, Correlate, Dropout, Encoding, Epilogue, Fit,
    Gather, Gemm, Heads, Op, Optimize, Pass, PlaceRows, Recurrence, RecurrenceBackward, Significant, StateWeight,
    Steps, SumSplits, Transport, TransposeBlocks, Update, View, Window,
};
use crate::plan::{BROADCAST_MAX_RANK, Profile, Variant};

/// A 32-bit member of a shader's `Params` block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Word {
    U(u32),
    F(f64),
}

impl Word {
    pub(super) fn bytes(self) -> [u8; 4] {
        match self {
            Word::U(value) => value.to_le_bytes(),
            Word::F(value) => (value as f32).to_le_bytes(),
        }
    }
}

/// What to launch, but for the tensors: they are bound by the names of the operation's operands.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub key: PipelineKey,
    /// Members of `Params` but for the strides, which come from the tensors.
    pub params: Vec<(&'static str, Word)>,
    /// Workgroups per replica.
    pub groups: u32,
}

impl Kernel {
    fn new(shader: &'static str, entry: impl Into<Cow<'static, str>>, groups: u32) -> Kernel {
        let key = PipelineKey { shader, entry: entry.into(), constants: Vec::new() };
        Kernel { key, params: Vec::new(), groups }
    }

    /// One invocation an element, 256 to a workgroup.
    fn elementwise(shader: &'static str, entry: impl Into<Cow<'static, str>>, elements: usize) -> Kernel {
        Kernel::new(shader, entry, (elements as u32).div_ceil(256))
    }

    fn u(mut self, name: &'static str, value: u32) -> Kernel {
        self.params.push((name, Word::U(value)));
        self
    }

    fn i(self, name: &'static str, value: i32) -> Kernel {
        self.u(name, value as u32)
    }

    fn f(mut self, name: &'static str, value: f64) -> Kernel {
        self.params.push((name, Word::F(value)));
        self
    }

    fn constant(mut self, name: &'static str, value: u32) -> Kernel {
        if value != 0 {
            self.key.constants.push((name, value));
        }
        self
    }

    fn flag(self, name: &'static str, value: bool) -> Kernel {
        self.constant(name, u32::from(value))
    }
}

/// The numbers of `common.wgsl`.
fn code(activation: Option<Activation>) -> u32 {
    match activation {
        None => 0,
        Some(Activation::Relu) => 1,
        Some(Activation::Gelu) => 2,
        Some(Activation::Tanh) => 3,
    }
}

/// The kernel that computes `op` in the given way on such an adapter.
pub(super) fn lower(op: &Op, variant: Variant, profile: &Profile) -> Kernel {
    match op {
        Op::Gemm(op) => gemm(op, variant, profile),
        Op::SumSplits(op) => sum_splits(op),
        Op::Transport(op) => transport(op, variant),
        Op::Gather(op) => gather(op),
        Op::Activate(op) => elementwise("activation", op.out).constant("f", code(Some(op.f))),
        Op::Gate(op) => elementwise("gate", op.out).constant("f", code(Some(op.f))),
        Op::Dropout(op) => dropout(op),
        Op::Add(op) => by_quads("add", op.out),
        Op::Significant(op) => Kernel::new("elementwise", "significant", 1)
            .u("count", op.out.shape.per_replica() as u32)
            .u("cols", op.out.cols())
            .f("threshold", Significant::THRESHOLD),
        Op::Fit(op) => fit(op),
        Op::ColumnSum(op) => column_sum(op),
        Op::ScaleGradient(op) => in_splits("scale_gradient", op.x, [op.splits(), op.depth()], op.accumulate),
        Op::Moments(op) => columns("mean_variance", op.x.rows(), op.x.cols(), 0.0),
        Op::NormaliseGradients(op) => {
            columns("normalise_gradients", op.x.rows(), op.x.cols(), op.epsilon).flag("has_totals", op.totals.is_some())
        }
        Op::Normalise(op) => {
            let (entry, elements) = by_rows("forward", op.x);
            normalise(entry, elements, op.x.rows(), op.x.cols(), op.epsilon, 0.0)
                .constant("activation", code(op.activation))
        }
        Op::NormaliseBackward(op) => {
            let (entry, elements) = by_rows("backward", op.x);
            normalise(entry, elements, op.x.rows(), op.x.cols(), op.epsilon, 0.0)
        }
        Op::LayerNorm(op) => layer_norm("forward", op.x, op.epsilon),
        Op::LayerNormGradients(op) => in_splits("layer_norm_gradients", op.x, [op.splits(), op.depth()], op.accumulate),
        Op::LayerNormBackward(op) => layer_norm("backward", op.x, 0.0).flag("has_addend", op.addend.is_some()),
        Op::Attention(op) => attention("forward", op.out, &op.heads, variant),
        Op::AttentionQueries(op) => attention("queries", op.error, &op.heads, variant),
        Op::AttentionKeys(op) => attention("keys", op.error, &op.heads, variant),
        Op::Recurrence(op) => recurrence(op, variant),
        Op::RecurrenceBackward(op) => recurrence_backward(op, variant),
        Op::Correlate(op) => correlate(op, variant),
        Op::Oja(op) => {
            Kernel::new("correlate", "oja", (op.p.rows().div_ceil(4) * op.p.cols().div_ceil(4)).div_ceil(64))
                .u("rows", op.rows)
                .u("outputs", op.p.rows())
                .u("rank", op.p.cols())
        }
        Op::TrackMoments(op) => {
            normalise("track".into(), op.running.shape.per_replica(), op.rows, op.running.cols(), 0.0, op.momentum)
        }
        Op::MaxPool(op) => pool("max_forward", op.out, &op.window),
        Op::MaxPoolBackward(op) => {
            let apart = pool("max_backward_apart", op.error, &op.window);
            let kernel = if op.window.is_tiling() { apart } else { pool("max_backward", op.out, &op.window) };
            kernel.constant("gate", code(op.gate.map(|(f, _)| f)))
        }
        Op::AveragePool(op) => pool("average_forward", op.out, &op.window),
        Op::AveragePoolBackward(op) => {
            pool("average_backward", op.out, &op.window).constant("gate", code(op.gate.map(|(f, _)| f)))
        }
        Op::TransposeBlocks(op) => transpose(op),
        Op::AddRow(op) => with_row("add_row", op.x, op.out),
        Op::ScaleColumns(op) => with_row("scale_columns", op.x, op.out),
        Op::PlaceRows(op) => place_rows(op),
        Op::Clear(op) => {
            let count = op.out.shape.per_replica();
            Kernel::elementwise("rows", "clear", count).u("count", count as u32)
        }
        Op::SoftmaxCrossEntropy(op) => loss("softmax_cross_entropy", op.logits, op.losses)
            .flag("has_smoothing", op.smoothing > 0.0)
            .f("label_share", 1.0 - op.smoothing)
            .f("class_share", op.smoothing / f64::from(op.logits.cols())),
        Op::MeanSquaredError(op) => loss("mean_squared_error", op.outputs, op.losses),
        Op::SquaredDistance(op) => {
            loss("squared_distance", op.outputs, op.losses).f("scale", op.scale).f("tolerance", op.tolerance)
        }
        Op::OneHot(op) => Kernel::elementwise("loss", "one_hot", op.out.shape.per_replica())
            .u("rows", op.out.rows())
            .u("cols", op.out.cols())
            .u("positions", op.labels.cols()),
        Op::Tally(op) => Kernel::new("loss", "tally", 1)
            .u("rows", op.losses.shape.per_replica() as u32)
            .u("positions", op.losses.cols()),
        Op::Optimize(op) => optimize(op),
        Op::Chain(op) => ceiling("chain", op.x.shape.per_replica() as u32 / 4, 768)
            .u("length", op.length)
            .f("factor", Chain::FACTOR)
            .f("offset", Chain::OFFSET),
        Op::Duplicate(op) => ceiling("copy", op.x.shape.per_replica() as u32 / 4, 1024),
    }
}

fn gather(op: &Gather) -> Kernel {
    let [height, width, channels] = op.image;
    let augment = op.augment;
    let elements = op.out.shape.per_replica();
    let (values, scale, shift) = match op.encoding {
        Encoding::Scaled { scale, shift } => (1, scale, shift),
        Encoding::OneHot(values) => (values, [0.0; 4], [0.0; 4]),
    };
    let kernel = if matches!(op.encoding, Encoding::OneHot(_)) {
        Kernel::elementwise("gather", "one_hot_bytes", elements)
    } else if augment.autoaugment.is_some() {
        let [cosine, _, left_x, sine, _, left_y] = AutoAugment::turn(op.image, false);
        let [_, _, right_x, _, _, right_y] = AutoAugment::turn(op.image, true);
        Kernel::new("gather", "autoaugment", op.labels.rows())
            .i("turn_cosine", cosine)
            .i("turn_sine", sine)
            .i("left_x", left_x)
            .i("left_y", left_y)
            .i("right_x", right_x)
            .i("right_y", right_y)
    } else if augment == Augment::default() && op.images.cols().is_multiple_of(4) {
        Kernel::elementwise("gather", "plain_quads", elements / 4)
    } else {
        Kernel::elementwise("gather", "plain", elements)
    };
    let mut kernel = kernel
        .flag("flip", augment.flip)
        .flag("rotate", augment.rotation > 0.0)
        .flag("crop", augment.padding > 0)
        .flag("cut", augment.cutout > 0)
        .u("images", op.images.rows())
        .u("first", op.first)
        .u("rows", op.labels.rows())
        .u("skip", op.skip)
        .u("targets", op.labels.cols())
        .u("values", values)
        .u("height", height)
        .u("width", width)
        .u("channels", channels)
        .u("padding", augment.padding)
        .u("cutout", augment.cutout)
        .f("rotation", augment.rotation.to_radians());
    for (names, values) in
        [(["scale0", "scale1", "scale2", "scale3"], scale), (["shift0", "shift1", "shift2", "shift3"], shift)]
    {
        for (name, value) in names.into_iter().zip(values) {
            kernel = kernel.f(name, value);
        }
    }
    kernel
}

/// One element an invocation.
fn elementwise(entry: &'static str, out: View) -> Kernel {
    let count = out.shape.per_replica();
    Kernel::elementwise("elementwise", entry, count).u("count", count as u32)
}

/// By quads where each shares its draw, or none shares any.
fn dropout(op: &Dropout) -> Kernel {
    let kernel = if op.together == 1 || op.together.is_multiple_of(4) {
        by_quads("dropout", op.out)
    } else {
        elementwise("dropout", op.out)
    };
    kernel
        .flag("shares_draws", op.together > 1)
        .u("together", op.together)
        .u("stream", op.stream)
        .f("drop", op.drop)
        .f("keep_scale", 1.0 / (1.0 - op.drop))
}

fn fit(op: &Fit) -> Kernel {
    let [outputs, rank, inputs] = op.extents;
    let ranks = if rank <= 8 { "broadcast_8" } else { "broadcast_16" };
    Kernel::new("fit_broadcast", ranks, op.factors())
        .flag("learns_p", op.w_q.is_some())
        .u("outputs", outputs)
        .u("rank", rank)
        .u("inputs", inputs)
        .u("at_p", op.at[0])
        .u("at_q", op.at[1])
        .f("threshold", Significant::THRESHOLD)
}

/// A row that meets every row of x.
fn with_row(entry: &str, x: View, out: View) -> Kernel {
    let whole = [x.cols(), x.offset(), out.offset()].iter().all(|n| n.is_multiple_of(4));
    let (quads, each) = if whole { ("_quads", 4) } else { ("", 1) };
    let count = out.shape.per_replica();
    Kernel::elementwise("rows", format!("{entry}{quads}"), count / each).u("count", count as u32).u("cols", x.cols())
}

/// Four elements an invocation where they are whole quads.
fn by_quads(entry: &str, out: View) -> Kernel {
    let count = out.shape.per_replica();
    let (quads, each) = if count.is_multiple_of(4) { ("_quads", 4) } else { ("", 1) };
    Kernel::elementwise("elementwise", format!("{entry}{quads}"), count / each).u("count", count as u32)
}

fn columns(entry: &'static str, rows: u32, cols: u32, epsilon: f64) -> Kernel {
    // The reductions by quads own 16 columns too.
    let quads = if cols.is_multiple_of(4) { "_quads" } else { "" };
    Kernel::new("columns", format!("{entry}{quads}"), cols.div_ceil(16))
        .u("rows", rows)
        .u("cols", cols)
        .f("epsilon", epsilon)
}

/// One invocation a column where columns alone are enough of them, as those of positions are.
fn column_sum(op: &ColumnSum) -> Kernel {
    let mut kernel = columns("sum", op.x.rows(), op.x.cols(), 0.0);
    if op.x.cols() / 64 >= op.x.rows() {
        let (quads, each) = if op.x.cols().is_multiple_of(4) { ("_quads", 4) } else { ("", 1) };
        kernel.key.entry = format!("sum_alone{quads}").into();
        kernel.groups = op.x.cols().div_ceil(64 * each);
    }
    kernel.flag("accumulate", op.accumulate)
}

/// The entry point for rows of whole quads or any, and how many invocations it takes at four rows each.
fn by_rows(entry: &str, x: View) -> (String, usize) {
    let blocks = x.rows().div_ceil(4) as usize;
    let (quads, each) = if is_quads(&[x]) { ("_quads", 4) } else { ("", 1) };
    (format!("{entry}{quads}"), blocks * x.cols() as usize / each)
}

fn normalise(entry: String, elements: usize, rows: u32, cols: u32, epsilon: f64, momentum: f64) -> Kernel {
    Kernel::elementwise("normalise", entry, elements)
        .u("rows", rows)
        .u("cols", cols)
        .f("epsilon", epsilon)
        .f("momentum", momentum)
}

/// The narrowest kernel in registers that holds a head, and the positions that a workgroup of it owns.
fn broadcast_block(width: u32) -> (u32, u32) {
    match width {
        _ if !width.is_multiple_of(4) => (32, 8),
        0..=16 => (16, 24),
        17..=32 => (32, 24),
        33..=48 => (48, 24),
        49..=64 => (64, 16),
        _ => (Heads::MAX_WIDTH, 8),
    }
}

/// 32 rows a workgroup.
fn layer_norm(entry: &str, x: View, epsilon: f64) -> Kernel {
    let quads = if is_quads(&[x]) { "_quads" } else { "" };
    Kernel::new("layernorm", format!("{entry}{quads}"), x.rows().div_ceil(32))
        .u("rows", x.rows())
        .u("cols", x.cols())
        .f("epsilon", epsilon)
}

/// Sums of columns over splits of the rows, each `depth` long.
fn in_splits(entry: &'static str, x: View, [splits, depth]: [u32; 2], accumulate: bool) -> Kernel {
    let mut kernel = columns(entry, x.rows(), x.cols(), 0.0).u("depth", depth);
    kernel.groups *= splits;
    kernel.flag("accumulate", accumulate)
}

/// Of a result, or an error, with all heads side by side.
fn attention(pass: &str, out: View, heads: &Heads, variant: Variant) -> Kernel {
    let (cols, width) = (out.cols(), heads.width(out.cols()));
    let quads = if width.is_multiple_of(4) { "_quads" } else { "" };
    let (shader, (widest, block)) = match variant {
        Variant::Broadcast => ("attention_broadcast", broadcast_block(width)),
        _ => ("attention", (width.next_multiple_of(32), 32)),
    };
    let samples = out.rows() / heads.length;
    let groups = samples * heads.count * heads.length.div_ceil(block);
    let mut kernel = Kernel::new(shader, format!("{pass}_{widest}{quads}"), groups)
        .flag("causal", heads.causal)
        .flag("has_dropout", heads.drop > 0.0)
        .u("samples", samples)
        .u("heads", heads.count)
        .u("length", heads.length)
        .u("width", width)
        .f("scale", 1.0 / f64::from(width).sqrt())
        .f("scale_log2", LOG2_E / f64::from(width).sqrt())
        .u("stream", heads.stream)
        .f("drop", heads.drop)
        .f("keep_scale", 1.0 / (1.0 - heads.drop));
    // Queries, keys and values lie side by side, and so do their gradients.
    for (third, [pitch, at, gradient_pitch, gradient_at]) in [
        ["pitch_q", "at_q", "pitch_dq", "at_dq"],
        ["pitch_k", "at_k", "pitch_dk", "at_dk"],
        ["pitch_v", "at_v", "pitch_dv", "at_dv"],
    ]
    .into_iter()
    .enumerate()
    {
        let begin = third as u32 * cols;
        kernel = kernel.u(pitch, 3 * cols).u(at, begin).u(gradient_pitch, 3 * cols).u(gradient_at, begin);
    }
    kernel
}

/// What both ways of a recurrence have in common.
struct Recurring {
    /// Entry points: `forward` or `back`, and which of them.
    pass: &'static str,
    form: String,
    cell: Cell,
    steps: Steps,
    samples: u32,
    width: u32,
    /// Units of a tile, with workgroup memory and in registers.
    tile: [u32; 2],
    /// Whether a step may be cut into its tiles: nothing in it has to wait for all of them.
    may_part: bool,
    /// Whether sums have whole quads of terms.
    quads: bool,
}

fn recurring(of: &Recurring, variant: Variant) -> Kernel {
    let Recurring { pass, form, cell, steps, samples, width, .. } = of;
    let (shader, entry, rows, tile) = match variant {
        Variant::Broadcast => {
            // Fewer rows where more would leave a thread without any.
            let rows = if *samples >= 128 { 32 } else { 16 };
            let quads = if of.quads { "_quads" } else { "" };
            ("recurrent_broadcast", format!("{pass}_{rows}_{form}{quads}"), rows, of.tile[1])
        }
        _ => ("recurrent", format!("{pass}_{form}"), 16, of.tile[0]),
    };
    let tiles = width.div_ceil(tile);
    let together = if steps.count == 1 && of.may_part { 1 } else { tiles };
    let code = match cell {
        Cell::Rnn => 0,
        Cell::Gru => 1,
        Cell::Lstm => 2,
    };
    Kernel::new(shader, entry, samples.div_ceil(rows) * tiles.div_ceil(together))
        .constant("cell", code)
        .u("samples", *samples)
        .u("length", steps.length)
        .u("width", *width)
        .u("gates", cell.gates() * width)
        .u("tiles", tiles)
        .u("together", together)
}

fn recurrence(op: &Recurrence, variant: Variant) -> Kernel {
    let (cell, steps, width) = (op.cell, op.steps, op.out.cols());
    let (pass, form, tile) = ("forward", cell.gates().to_string(), [64, 16]);
    let (samples, quads) = (op.out.rows() / steps.length, width.is_multiple_of(4));
    recurring(&Recurring { pass, form, cell, steps, samples, width, tile, may_part: true, quads }, variant)
        .u("first", steps.first)
        .u("steps", steps.count)
        .u("kept", cell.saved() * width)
}

fn recurrence_backward(op: &RecurrenceBackward, variant: Variant) -> Kernel {
    let (cell, steps, width) = (op.cell, op.steps, op.error.cols());
    let (form, rank) = match op.through {
        StateWeight::Whole(_) => ("whole", 0),
        StateWeight::Factored { p, .. } => ("factored", p.cols()),
    };
    // A step's projection goes over all units.
    let may_part = rank == 0;
    let quads = rank.is_multiple_of(4) && op.gates.cols().is_multiple_of(4);
    let (pass, form, tile, samples) = ("back", form.to_owned(), [64, 32], op.error.rows() / steps.length);
    recurring(&Recurring { pass, form, cell, steps, samples, width, tile, may_part, quads }, variant)
        .flag("has_bound", op.clamp.is_some())
        .u("first", steps.end())
        // Behind the first step its own errors are projected.
        .u("steps", steps.count + u32::from(rank > 0 && steps.first == 0))
        .u("kept", op.saved.cols())
        .u("rank", rank)
        .u("window", op.window.unwrap_or(0))
        .f("bound", op.clamp.unwrap_or(0.0))
}

/// One invocation an element of `over`, or quad.
fn pool(entry: &'static str, over: View, window: &Window) -> Kernel {
    let (quads, each) = if is_quads(&[over]) { ("_quads", 4) } else { ("", 1) };
    let count = over.shape.per_replica() / each;
    let mut kernel = Kernel::elementwise("pool", format!("{entry}{quads}"), count)
        .u("count", count as u32)
        .u("channels", over.cols() / each as u32);
    for ([height, width], values) in [
        (["image_height", "image_width"], window.image),
        (["grid_height", "grid_width"], window.grid),
        (["kernel_height", "kernel_width"], window.kernel),
        (["step_height", "step_width"], window.stride),
        (["padding_height", "padding_width"], window.padding),
    ] {
        kernel = kernel.u(height, values[0]).u(width, values[1]);
    }
    kernel
}

fn transpose(op: &TransposeBlocks) -> Kernel {
    let tiles = op.rows.div_ceil(32) * op.cols.div_ceil(32);
    Kernel::new("transpose", "blocks", op.blocks() * tiles)
        .u("rows", op.rows)
        .u("cols", op.cols)
        .u("blocks", op.blocks())
}

fn place_rows(op: &PlaceRows) -> Kernel {
    // Rows begin at whole quads where all that leads to them is one.
    let strides = op.x.strides();
    let places = [op.x.cols(), op.x.offset(), strides.row, strides.batch[0], op.out.offset()];
    let (entry, each) =
        if places.iter().all(|n| n.is_multiple_of(4)) { ("place_rows_quads", 4) } else { ("place_rows", 1) };
    let count = op.out.shape.per_replica();
    Kernel::elementwise("rows", entry, count / each)
        .flag("has_fill", op.fill.is_some())
        .u("count", count as u32)
        .u("cols", op.out.cols())
        .u("rows", op.x.rows())
        .u("length", op.length())
        .u("first", op.first)
}

/// A row of outputs an invocation; `losses` are samples x positions.
fn loss(entry: &'static str, outputs: View, losses: View) -> Kernel {
    Kernel::new("loss", entry, outputs.rows().div_ceil(64))
        .u("rows", outputs.rows())
        .u("cols", outputs.cols())
        .u("positions", losses.cols())
}

/// `each` vec4 a workgroup.
fn ceiling(entry: &'static str, quads: u32, each: u32) -> Kernel {
    Kernel::new("ceiling", entry, quads.div_ceil(each)).u("count", quads)
}

fn epilogue(kernel: Kernel, epilogue: &Epilogue) -> Kernel {
    kernel
        .flag("has_addend", epilogue.addend.is_some())
        .flag("has_bound", epilogue.clamp.is_some())
        .constant("gate", code(epilogue.gate.map(|(f, _)| f)))
        .f("bound", epilogue.clamp.unwrap_or(0.0))
}

/// The epilogue of a product, with the factor before it.
fn product_epilogue(kernel: Kernel, op: &Epilogue, alpha: f64) -> Kernel {
    epilogue(kernel, op)
        .flag("has_bias", op.bias.is_some())
        .constant("activation", code(op.activation))
        .f("alpha", alpha)
        .f("addend_scale", op.addend.map_or(0.0, |(_, scale)| scale))
}

fn gemm(op: &Gemm, variant: Variant, profile: &Profile) -> Kernel {
    let kind = match variant {
        Variant::Stream16x64 => "stream",
        Variant::Broadcast16x64
        | Variant::Broadcast32x32
        | Variant::Broadcast32x64
        | Variant::Broadcast64x32
        | Variant::Broadcast64x16 => "broadcast",
        Variant::Half32x32 | Variant::Half64x64 | Variant::Half128x64 => "half",
        Variant::Matrix64x32 | Variant::Matrix128x64 => "matrix",
        _ => "tile",
    };
    // A window makes another shader of the same template: a plain product compiles none of it.
    let shader = match (kind, op.convolution.is_some()) {
        ("stream", false) => "gemm_stream",
        ("stream", true) => "convolution_stream",
        ("broadcast", false) => "gemm_broadcast",
        ("broadcast", true) => "convolution_broadcast",
        ("half", false) => "gemm_half",
        ("half", true) => "convolution_half",
        ("matrix", false) => "gemm_matrix",
        ("matrix", true) => "convolution_matrix",
        (_, false) => "gemm",
        (_, true) => "convolution",
    };
    let (tile_rows, tile_cols) = variant.tile().unwrap_or((64, 64));
    // The kernels without workgroup memory are written once for either order of a.
    let in_registers = matches!(kind, "stream" | "broadcast");
    let turned = if op.transpose_a && in_registers { "_turned" } else { "" };
    let quads = if op.is_quads() && variant != Variant::Yardstick { "_quads" } else { "" };
    let groups = op.rows().div_ceil(tile_rows) * op.cols().div_ceil(tile_cols) * op.splits;
    let mut kernel = Kernel::new(shader, format!("{kind}_{tile_rows}x{tile_cols}{turned}{quads}"), groups);
    let mut alpha = op.alpha;
    if let Some(half) = op.half {
        kernel = kernel.f("scale_a", half.scale(0)).f("scale_b", half.scale(1));
        alpha /= half.scale(0) * half.scale(1);
    }
    if kind == "matrix" {
        kernel = kernel.constant("lanes", profile.subgroup_lanes.unwrap_or(32));
    }
    let exact = in_registers && is_exact(op.rows(), tile_rows, op.cols(), tile_cols, groups);
    if let Some(c) = op.convolution {
        kernel = convolution(kernel, &c, op);
    }
    product_epilogue(kernel, &op.epilogue, alpha)
        .flag("exact", exact)
        .flag("transpose_a", op.transpose_a && turned.is_empty())
        .flag("transpose_b", op.transpose_b)
        .flag("has_sums", op.sums.is_some())
        .flag("accumulate", op.accumulate)
        .u("rows", op.rows())
        .u("cols", op.cols())
        .u("inner", op.inner())
        .u("splits", op.splits)
        .u("depth", op.depth())
}

/// How a product of a convolution finds what it reads.
fn convolution(kernel: Kernel, convolution: &Convolution, op: &Gemm) -> Kernel {
    let Window { image, grid, kernel: taps, stride, padding } = convolution.window;
    let (pass, over, source, channels) = match convolution.pass {
        Pass::Forward => (1, grid, image, op.a.cols()),
        Pass::Input => (2, image, grid, op.a.cols()),
        Pass::Weight => (3, grid, image, op.b.cols()),
    };
    kernel
        .constant("convolution", pass)
        .u("grid_height", over[0])
        .u("grid_width", over[1])
        .u("source_height", source[0])
        .u("source_width", source[1])
        .u("channels", channels)
        .u("taps", convolution.window.taps())
        .u("kernel_width", taps[1])
        .u("step_y", stride[0])
        .u("step_x", stride[1])
        .u("padding_y", padding[0])
        .u("padding_x", padding[1])
}

/// Whether tiles cover rows and columns with nothing left over, and the grid has no workgroup more than needed.
fn is_exact(rows: u32, tile_rows: u32, cols: u32, tile_cols: u32, groups: u32) -> bool {
    /// What every adapter takes in one dimension, beyond which the grid is filled up to a rectangle.
    const ONE_DIMENSION: u32 = 65535;
    rows.is_multiple_of(tile_rows) && cols.is_multiple_of(tile_cols) && groups <= ONE_DIMENSION
}

fn sum_splits(op: &SumSplits) -> Kernel {
    let quads = op.out.cols().is_multiple_of(4);
    let elements = op.out.shape.per_replica() / if quads { 4 } else { 1 };
    let entry = if quads { "sum_splits_quads" } else { "sum_splits" };
    product_epilogue(Kernel::elementwise("gemm", entry, elements), &op.epilogue, op.alpha)
        .flag("accumulate", op.accumulate)
        .u("rows", op.out.rows())
        .u("cols", op.out.cols())
        .u("splits", op.splits())
}

fn is_quads(tensors: &[View]) -> bool {
    tensors.iter().all(|t| t.cols().is_multiple_of(4))
}

fn transport(op: &Transport, variant: Variant) -> Kernel {
    let quads = match (is_quads(&[op.delta]), is_quads(&[op.q])) {
        (true, true) => "_quads",
        // The error of an output layer is as narrow as there are classes.
        (false, true) if variant == Variant::Broadcast => "_out_quads",
        _ => "",
    };
    let kind = match variant {
        Variant::Broadcast if op.p.cols() <= BROADCAST_MAX_RANK / 2 => "broadcast_8",
        Variant::Broadcast => "broadcast_16",
        _ => "tiled",
    };
    let shader = if variant == Variant::Broadcast { "transport_broadcast" } else { "transport" };
    let groups = op.out.rows().div_ceil(32);
    let exact = variant == Variant::Broadcast && is_exact(op.out.rows(), 32, op.out.cols(), 64, groups);
    epilogue(Kernel::new(shader, format!("{kind}{quads}"), groups), &op.epilogue)
        .flag("exact", exact)
        .u("rows", op.out.rows())
        .u("outputs", op.delta.cols())
        .u("rank", op.p.cols())
        .u("inputs", op.out.cols())
}

fn correlate(op: &Correlate, variant: Variant) -> Kernel {
    let (outputs, rank) = (op.x.cols(), op.y.cols());
    let kernel = if variant == Variant::Broadcast {
        // The last workgroups of a split, one for few ranks, correlate y with itself.
        let (ranks, groups) = match rank {
            0..=8 => ("8", outputs.div_ceil(64) + 1),
            9..=16 => ("16", outputs.div_ceil(64) + 1),
            _ => ("blocks", (outputs.div_ceil(64) + rank.div_ceil(64)) * rank.div_ceil(32)),
        };
        let quads = if is_quads(&[op.x]) { "_quads" } else { "" };
        Kernel::new("correlate_broadcast", format!("broadcast_{ranks}{quads}"), groups * op.splits)
    } else {
        let inputs = op.hebbian.map_or(0, |h| h.input.cols());
        let tiles = outputs.div_ceil(64) + rank.div_ceil(64) + inputs.div_ceil(64);
        Kernel::new("correlate", "tiled", tiles * rank.div_ceil(16) * op.splits).u("inputs", inputs)
    };
    kernel
        .flag("has_origin", op.origin.is_some())
        .flag("accumulate", op.hebbian.is_some_and(|h| h.accumulate))
        .u("rows", op.x.rows())
        .u("outputs", outputs)
        .u("rank", rank)
        .u("splits", op.splits)
        .u("depth", op.depth())
}

fn optimize(op: &Optimize) -> Kernel {
    let rule = match op.update {
        Update::Sgd { .. } => "sgd",
        Update::Adam { .. } => "adam",
        Update::RmsProp { .. } => "rmsprop",
    };
    let (momentum, beta1, beta2, epsilon, amsgrad, decoupled) = match op.update {
        Update::Sgd { momentum } => (momentum, 0.0, 0.0, 0.0, false, false),
        Update::Adam { betas, epsilon, amsgrad, decoupled } => (0.0, betas.0, betas.1, epsilon, amsgrad, decoupled),
        Update::RmsProp { alpha, epsilon } => (0.0, 0.0, alpha, epsilon, false, false),
    };
    let count = op.values.shape.per_replica();
    let (quads, each) = if count.is_multiple_of(4) { ("_quads", 4) } else { ("", 1) };
    Kernel::elementwise("optimize", format!("{rule}{quads}"), count / each)
        .flag("has_bound", op.clamp.is_some())
        .flag("has_momentum", momentum != 0.0)
        .flag("amsgrad", amsgrad)
        .flag("decoupled", decoupled)
        .u("count", count as u32)
        .u("group", op.group)
        .f("bound", op.clamp.unwrap_or(0.0))
        .f("momentum", momentum)
        .f("beta1", beta1)
        .f("beta2", beta2)
        .f("rest1", 1.0 - beta1)
        .f("rest2", 1.0 - beta2)
        .f("epsilon", epsilon)
}
