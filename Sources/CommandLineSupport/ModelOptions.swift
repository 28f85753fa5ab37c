public import ArgumentParser
import Foundation
public import ImageProcessing
import Kernels
public import PDrop
public import Storage
public import Tokenizers

extension ImageMode: ExpressibleByArgument {}
extension PDrop.Precision: ExpressibleByArgument {}
extension CachePrecision: ExpressibleByArgument {}

/// Which model to load and in which arithmetic, how to read its images and prompts, and on how many threads.
public struct ModelOptions: ParsableArguments {
  @OptionGroup public var loading: LoadingOptions

  @Option(help: "Arithmetic: auto, f32, bf16 or int8.")
  public var precision = PDrop.Precision.auto

  public init() {}

  /// The model's directory: that given, or the bundled model's.
  public func directory() throws -> String { try loading.directory() }

  public var threadCount: Int { loading.threadCount }

  /// Loads the model's tokenizer only.
  public func loadTokenizer() throws -> Tokenizer { try loading.loadTokenizer() }

  /// Loads the model, with a warning where its weights cannot be cached as asked for.
  ///
  /// - Parameter featureCache: Where encoded images are kept.
  public func load(featureCache: FeatureCacheOptions? = nil) throws -> VisionLanguageModel {
    try loading.load(precision, featureCache: featureCache)
  }
}

/// Which model to load, but for its arithmetic, of which a command may compare several.
public struct LoadingOptions: ParsableArguments {
  @Option(
    name: [.short, .long],
    help: "Model directory, of the Hugging Face or the original layout. (default: the bundled tiny-textvqa)")
  public var model: String?

  @Option(name: [.short, .long], help: "Threads to compute on. (default: all cores)")
  public var threads: Int?

  @Option(
    name: [.customLong("image-mode")],
    help: "Fit images by padding, by cropping, by tiles, or as the model says: pad, crop, anyres, auto.")
  public var imageMode = ImageMode.auto

  @Option(
    name: [.customLong("chat-template"), .customLong("conv-mode")],
    help: "Chat template, such as vicuna_v1 or mistral_instruct. (default: the model's own)")
  public var chatTemplate: String?

  @Option(
    name: [.customLong("vision-tower")],
    help: "CLIP directory of an original LLaVA checkpoint. (default: looked for beside the model)")
  public var visionTower: String?

  @Option(
    name: .customLong("precision-vision"),
    help: "Arithmetic of the vision encoder. (default: as --precision, but not int8)")
  public var visionPrecision = PDrop.Precision.auto

  @Option(name: .customLong("kv"), help: "Numbers that keys and values are kept in: auto, f32 or bf16.")
  public var cachePrecision = CachePrecision.auto

  @Option(
    name: .customLong("weights-cache"),
    help: "Folder that keeps weights converted for --precision, for a fast start next time.")
  public var weightsCache: String?

  public init() {}

  public func validate() throws {
    guard threads.map({ (1...1024).contains($0) }) ?? true else {
      throw ValidationError("--threads must be 1 to 1024, found \(threads ?? 0)")
    }
    if let chatTemplate, ChatTemplate(named: chatTemplate) == nil {
      let known = ChatTemplate.named.map(\.name).joined(separator: ", ")
      throw ValidationError("--chat-template '\(chatTemplate)' is not known; use one of \(known)")
    }
  }

  /// The model's directory: that given, or the bundled model's.
  public func directory() throws -> String { try model ?? BundledModel.directory() }

  public var threadCount: Int { threads ?? ProcessInfo.processInfo.activeProcessorCount }

  /// Loads the model's tokenizer only.
  public func loadTokenizer() throws -> Tokenizer {
    let directory = try directory()
    do { return try Tokenizer(directory: URL(filePath: directory, directoryHint: .isDirectory)) } catch {
      throw FileArgumentError("\(error)")
    }
  }

  /// Loads the model, with a warning where its weights cannot be cached as asked for.
  ///
  /// - Parameter featureCache: Where encoded images are kept.
  public func load(
    _ precision: PDrop.Precision, featureCache: FeatureCacheOptions? = nil
  ) throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    options.imageMode = imageMode
    options.visionTower = visionTower
    options.precision = precision
    options.visionPrecision = visionPrecision
    options.cachePrecision = cachePrecision
    options.weightsCache = weightsCache
    options.featureCache = featureCache
    options.threads = threadCount
    options.template = chatTemplate.flatMap(ChatTemplate.init(named:))
    let model = try VisionLanguageModel(directory: try directory(), options: options)
    if let report = model.weightsCache, report.hasFailed { Log.warning("weights cache: \(report)") }
    return model
  }
}

/// The model that comes with the package.
public enum BundledModel {
  /// The environment variable that names the folder of bundled models.
  static let variable = "PDROP_MODELS"
  static let name = "tiny-textvqa"

  public struct NotFound: UserFacingError {
    /// What was looked for, as it is called in `Models`.
    let name: String
    let remedy: String

    public var category: ErrorCategory { .resource }
    public var problem: String {
      "the bundled Models/\(name) was not found beside the program; \(remedy), or name the folder Models in "
        + BundledModel.variable
    }
  }

  /// Its directory: in the folder named by `PDROP_MODELS`, or above the program in `Models`, as in a checkout, or in
  /// `share/swift-pyramid-drop`, as in an installation.
  public static func directory() throws(NotFound) -> String {
    try folder(name, holding: "config.json", orElse: "give a model with -m")
  }

  /// The folder of questions about unseen images, with their answers, in the same place.
  public static func evaluationSet() throws(NotFound) -> String {
    try folder(name + "-eval", holding: "answers.jsonl", orElse: "run it from a checkout")
  }

  private static func folder(_ name: String, holding file: String, orElse remedy: String) throws(NotFound) -> String {
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
      throw NotFound(name: name, remedy: remedy)
    }
    return found
  }

  private static func executablePath() -> String {
    Bundle.main.executablePath ?? CommandLine.arguments.first ?? ""
  }
}
