public import ArgumentParser
import Foundation
public import ImageProcessing
import Kernels
public import PDrop
public import Storage
public import Tokenizers

extension ImageMode: ExpressibleByArgument {}
extension Precision: ExpressibleByArgument {}
extension CachePrecision: ExpressibleByArgument {}
extension ScorePrecision: ExpressibleByArgument {}
extension ModelQuantizer.WeightType: ExpressibleByArgument {}

/// The model to load, its compute precision, image preprocessing, chat template and number of threads.
public struct ModelOptions: ParsableArguments {
  @OptionGroup public var loading: LoadingOptions

  @Option(help: "Compute precision of the language model: auto, f32, bf16, int8 or int4.")
  public var precision = Precision.auto

  public init() {}

  /// The model directory, by default that of the bundled model.
  public func directory() throws -> String { try loading.directory() }

  public var threadCount: Int { loading.threadCount }
  /// Such as `2 threads`, for the log.
  package var threadDescription: String { ThreadCount(requested: loading.threads).description }

  /// Loads only the tokenizer of the model.
  public func loadTokenizer() throws -> Tokenizer { try loading.loadTokenizer() }

  /// Loads the model; a weights cache that cannot be used only causes a warning.
  ///
  /// - Parameters:
  ///   - featureCache: The cache of encoded images; `nil` for none.
  ///   - promptCache: The cache of prefilled prompts; `nil` for none.
  public func load(
    featureCache: FeatureCacheOptions? = nil, promptCache: PromptCacheOptions? = nil
  ) throws -> VisionLanguageModel {
    try loading.load(precision, featureCache: featureCache, promptCache: promptCache)
  }
}

/// Model options without the compute precision, which some commands compare.
public struct LoadingOptions: ParsableArguments {
  @Option(
    name: [.short, .long],
    help:
      "Model directory in Hugging Face or original LLaVA layout, or a GGUF file. (default: the bundled tiny-textvqa)")
  public var model: String?

  @Option(
    name: [.short, .long], help: "Number of threads, at most one per processor that may be used. (default: all of them)"
  )
  public var threads: Int?

  @Option(
    name: [.customLong("image-mode")],
    help:
      "Image preprocessing: pad (to a square), crop (to the centre), anyres (tiles) or auto (as the model requires).")
  public var imageMode = ImageMode.auto

  @Option(
    name: .customLong("max-tiles"),
    help: "Maximum tiles of an image, for models with tiles. (default: as many as the model allows)")
  public var maxTiles: Int?

  @Option(
    name: [.customLong("chat-template"), .customLong("conv-mode")],
    help: "Chat template: a name, such as vicuna_v1, or a Jinja file. (default: detected from the model)")
  public var chatTemplate: String?

  @Option(
    name: [.customLong("vision-tower")],
    help: "CLIP or SigLIP directory for an original LLaVA checkpoint. (default: searched next to the model)")
  public var visionTower: String?

  @Option(
    name: .customLong("clip-model"),
    help: """
      CLIP directory with a text encoder, such as clip-vit-large-patch14-336, for --preselect cdpruner; none for the \
      language model's embeddings. (default: that of the vision encoder, or clip in or beside the model's directory)
      """)
  public var clipModel: String?

  @Option(
    help: "GGUF file of the vision encoder, for a model in GGUF. (default: the only one beside the model)")
  public var mmproj: String?

  @Option(
    name: .customLong("precision-vision"),
    help: "Compute precision of the vision encoder. (default: as --precision, but not to 4 bits)")
  public var visionPrecision = Precision.auto

  @Option(name: .customLong("kv"), help: "KV cache data type: auto, f32, bf16 or int8.")
  public var cachePrecision = CachePrecision.auto

  @Option(
    name: .customLong("attention-scores"),
    help: "Data type of attention scores in prompts and in the vision encoder: auto, float or int8.")
  public var scorePrecision = ScorePrecision.auto

  @Option(
    name: .customLong("weights-cache"),
    help: "Folder that caches weights converted to --precision, for a faster next start.")
  public var weightsCache: String?

  public init() {}

  public func validate() throws {
    try checkRange("--threads", threads, 1...1024)
    guard model != "" else { throw ValidationError("--model is empty; give a directory or a GGUF file") }
    if let chatTemplate, ChatTemplate(named: chatTemplate) == nil,
      !FileManager.default.fileExists(atPath: chatTemplate)
    {
      let names = ChatTemplate.named.map(\.name).joined(separator: ", ")
      throw ValidationError(
        "--chat-template \(chatTemplate.excerpt) is neither a file nor one of the names \(names)")
    }
  }

  /// The model directory, by default that of the bundled model.
  public func directory() throws -> String { try model ?? BundledModel.directory() }

  /// The files of the model, which no output may replace.
  public var files: [String] {
    let folder = (try? directory()) ?? ""
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter { name in
      Self.fileNames.contains(name) || Self.fileEndings.contains { name.hasSuffix($0) }
    }
    return [model, mmproj, chatTemplate].compactMap(\.self) + names.map { folder + "/" + $0 }
  }

  private static let fileNames: Set<String> = [
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template.json", "chat_template.jinja",
  ]
  private static let fileEndings = [".safetensors", ".gguf", ".bin", ".model", ".index.json"]

  /// The number of threads that can run: fewer than requested if there are fewer processors.
  public var threadCount: Int { ThreadCount(requested: threads).count }

  /// Loads only the tokenizer of the model.
  public func loadTokenizer() throws -> Tokenizer {
    try Tokenizer(model: directory())
  }

  /// Loads the model; a weights cache that cannot be used only causes a warning.
  ///
  /// - Parameters:
  ///   - precision: The compute precision of the language model.
  ///   - featureCache: The cache of encoded images; `nil` for none.
  ///   - promptCache: The cache of prefilled prompts; `nil` for none.
  public func load(
    _ precision: Precision, featureCache: FeatureCacheOptions? = nil, promptCache: PromptCacheOptions? = nil
  ) throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    options.imageMode = imageMode
    options.maxTiles = maxTiles
    options.visionTower = visionTower
    options.mmproj = mmproj
    options.clipModel = CLIPSource(option: clipModel)
    options.precision = precision
    options.visionPrecision = visionPrecision
    options.cachePrecision = cachePrecision
    options.scorePrecision = scorePrecision
    options.weightsCache = weightsCache
    options.featureCache = featureCache
    options.promptCache = promptCache
    options.threads = threadCount
    options.template = try chatTemplate.map { try ChatTemplate(named: $0) ?? ChatTemplate(file: $0) }
    let model = try VisionLanguageModel(directory: try directory(), options: options)
    if let warning = ThreadCount(requested: threads).warning { Log.warning(warning) }
    if let report = model.weightsCache, report.hasFailed { Log.warning("weights cache: \(report)") }
    for warning in model.warnings { Log.warning("\(model.name): \(warning)") }
    return model
  }
}

extension CLIPSource {
  /// The value of `--clip-model`; `nil` if it is not given.
  public init(option: String?) {
    switch option {
    case nil: self = .automatic
    case "none": self = .none
    case .some(let directory): self = .directory(directory)
    }
  }
}

/// The number of threads of a program, and why it is less than requested.
package struct ThreadCount {
  private let requested: Int?
  package let count: Int

  /// - Parameter requested: `nil` for one per processor.
  package init(requested: Int?) {
    self.requested = requested
    count = Workers(count: requested ?? SystemProcessors.available).count
  }

  /// A warning if the system refused threads that processors are available for; `nil` if it did not.
  var warning: String? {
    let wanted = min(requested ?? .max, SystemProcessors.available)
    guard count < wanted else { return nil }
    return "\(count) of \(wanted) threads: the system refused another one; raise its limits (ulimit -v, ulimit -u)"
  }

  /// Such as `2 threads`, or `2 threads (64 requested, processors available: 2)`.
  package var description: String {
    guard let requested, requested > count else { return "\(count) threads" }
    return "\(count) threads (\(requested) requested, processors available: \(SystemProcessors.available))"
  }
}

/// The bundled model and its evaluation set.
public enum BundledModel {
  /// The environment variable that names the folder of bundled models.
  static let variable = "PDROP_MODELS"
  static let name = "tiny-textvqa"

  /// The model directory.
  ///
  /// Searched in the folder named by `PDROP_MODELS`, then in every folder above the program: in `Models`, as in a
  /// checkout, and in `share/swift-pyramid-drop`, as in an installation.
  public static func directory() throws(BundledModelError) -> String {
    try folder(name, containing: "config.json", otherwise: "give a model with -m")
  }

  /// The evaluation set: questions about unseen images with their answers, next to the model.
  public static func evaluationSet() throws(BundledModelError) -> String {
    try folder(name + "-eval", containing: "answers.jsonl", otherwise: "run it from a checkout")
  }

  private static func folder(_ name: String, containing file: String, otherwise remedy: String)
    throws(BundledModelError) -> String
  {
    var folders: [URL] = []
    if let folder = ProcessInfo.processInfo.environment[variable] {
      folders.append(URL(filePath: folder, directoryHint: .isDirectory))
    }
    var folder = URL(filePath: executablePath()).resolvingSymlinksInPath().deletingLastPathComponent()
    while folder.pathComponents.count > 1 {
      folders.append(folder.appending(path: "Models"))
      folders.append(folder.appending(path: "share/swift-pyramid-drop"))
      folder.deleteLastPathComponent()
    }
    let directories = folders.map { $0.appending(path: name).path(percentEncoded: false) }
    guard let found = directories.first(where: { FileManager.default.fileExists(atPath: "\($0)/\(file)") }) else {
      throw BundledModelError(name: name, remedy: remedy)
    }
    return found
  }

  private static func executablePath() -> String {
    Bundle.main.executablePath ?? CommandLine.arguments.first ?? ""
  }
}

/// A bundled folder that was not found.
public struct BundledModelError: UserFacingError {
  /// The name of the folder in `Models`.
  let name: String
  let remedy: String

  public var category: ErrorCategory { .resource }

  public var problem: String {
    "the bundled Models/\(name) was not found near the program; \(remedy), or set \(BundledModel.variable) to the path "
      + "of the folder Models"
  }
}
