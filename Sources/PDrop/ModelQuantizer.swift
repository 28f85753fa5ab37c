public import Foundation
import Kernels
import ModelFormats
import Storage
import Tokenizers

/// A conversion of a model to a pair of GGUF files with quantized weights, which llama.cpp can read too.
///
///     let quantizer = ModelQuantizer(type: .q4K, threads: 4)
///     let files = try quantizer.write("Models/tiny-textvqa", to: folder + "/tiny-q4_k.gguf")
///     print(files.modelBytes, files.mmprojBytes)
///
/// In the file of the language model, matrices of the decoder have the given type, embedding and output head Q6_K or
/// Q8_0, and norms and biases F32. The vision encoder and the projector are written to a second file beside it, named
/// `mmproj-` and the name of the first, with matrices in F16.
public struct ModelQuantizer: Sendable {
  /// The type of the decoder's matrices.
  public enum WeightType: String, CaseIterable, Sendable {
    /// 4.5 bits per weight; embedding and output head in Q6_K.
    case q4K = "q4_k"
    /// 6.6 bits per weight.
    case q6K = "q6_k"
    /// 8.5 bits per weight.
    case q8zero = "q8_0"

    fileprivate var blocks: BlockType {
      switch self {
      case .q4K: .q4K
      case .q6K: .q6K
      case .q8zero: .q8zero
      }
    }

    /// The type of embedding and output head, whose rounding changes logits most.
    fileprivate var head: BlockType { self == .q8zero ? .q8zero : .q6K }
  }

  /// The files that were written.
  public struct Result: Sendable, Equatable {
    /// The path of the language model's file, and its size in bytes.
    public let model: String
    public let modelBytes: Int
    /// The path of the vision encoder's file, and its size in bytes; `nil` and 0 for a model without one.
    public let mmproj: String?
    public let mmprojBytes: Int
  }

  public var type: WeightType
  /// The number of threads.
  public var threads: Int
  /// The CLIP directory of an original LLaVA checkpoint; `nil` to search for it.
  public var visionTower: String?
  /// The GGUF file of the vision encoder for a model in GGUF; `nil` for the only one beside it.
  public var mmproj: String?

  public init(type: WeightType = .q4K, threads: Int = ProcessInfo.processInfo.activeProcessorCount) {
    self.type = type
    self.threads = threads
  }

  /// The path of the vision encoder's file.
  public static func mmprojPath(besideModel path: String) -> String {
    let url = URL(filePath: path)
    return url.deletingLastPathComponent().appending(path: "mmproj-" + url.lastPathComponent).path(
      percentEncoded: false)
  }

  /// Converts a model.
  ///
  /// Memory holds one tensor and its quantized form at a time.
  ///
  /// - Parameters:
  ///   - model: A model directory, or a GGUF file.
  ///   - path: The file of the language model; existing files are replaced when the new ones are complete.
  ///   - progress: Called after each tensor, with the number of tensors so far and the number of all.
  /// - Throws: `ModelError` for a model that cannot be read or that GGUF files cannot describe.
  public func write(
    _ model: String, to path: String, progress: (_ done: Int, _ count: Int) -> Void = { _, _ in }
  ) throws(ModelError) -> Result {
    do {
      let files = try ModelSearch.open(model, visionTower: visionTower, mmproj: self.mmproj)
      let name = URL(filePath: model).deletingPathExtension().lastPathComponent
      let configuration = files.configuration
      var text = try GGUFExport.languageModel(configuration, name: name)
      try text.set(Self.tokenizer(files))
      let vision =
        configuration.vision == nil
        ? nil : try GGUFExport.visionEncoder(configuration, files.preprocessor(), name: name)
      let mmproj = vision.map { _ in Self.mmprojPath(besideModel: path) }
      for case let output? in [path, mmproj] {
        if let source = files.ggufFiles.first(where: { OpenFile.isSame($0, output) }) {
          throw FileError.unwritable(path: output, reason: "it is \(source) of the model; give another path")
        }
      }
      let workers = Workers(count: threads)
      let count = text.parts.count + (vision?.parts.count ?? 0)
      var done = 0
      func bytes(
        _ export: GGUFExport, _ path: String, _ type: (GGUFExport.Part) -> StoredType
      ) throws(CheckpointError) -> Int {
        try export.write(to: path, types: type) { part throws(CheckpointError) in
          let tensor = try export.tensor(part, of: files)
          defer {
            tensor.releasePages()
            done += 1
            progress(done, count)
          }
          try Self.check(tensor, part.name, type(part), in: files.path, workers)
          return tensor.converted(to: type(part), workers: workers)
        }
      }
      let modelBytes = try bytes(text, path, textType)
      var mmprojBytes = 0
      if let vision, let mmproj { mmprojBytes = try bytes(vision, mmproj, Self.visionType) }
      return Result(model: path, modelBytes: modelBytes, mmproj: mmproj, mmprojBytes: mmprojBytes)
    } catch {
      throw ModelError(loading: error, in: model)
    }
  }

  /// Checks that the values of a tensor are numbers which a type can have.
  private static func check(
    _ tensor: Tensor, _ name: String, _ type: StoredType, in file: String, _ workers: Workers
  ) throws(CheckpointError) {
    let largest = tensor.largestMagnitude(workers: workers)
    guard largest.isFinite else {
      throw .malformed(
        file: file, reason: "\(name) has values that are infinite or not numbers; is the download complete?")
    }
    // From here on, F16 rounds to infinity.
    if type == .floats(.f16), largest >= 65_520 {
      throw .malformed(file: file, reason: "\(name) has values up to \(largest), which F16 cannot have")
    }
  }

  private static func tokenizer(_ files: any ModelFiles) throws -> GGUFTokenizer {
    if let metadata = files.metadata { return try GGUFTokenizer(metadata) }
    let url = URL(filePath: files.path)
    var values = try GGUFTokenizer(
      directory: url, tokenCount: files.configuration.text.vocabularySize,
      prefersSentencePiece: files.configuration.layout == .original)
    let vocabulary = try ModelVocabulary(files)
    values.chatTemplate = try vocabulary.chatTemplates(Tokenizer(vocabulary.vocabulary)).template?.source
    // The end of a turn beside the end of a text, as in Llama 3.
    let eosTokens = try files.eosTokens()?.tokens.sorted() ?? []
    if let first = eosTokens.first {
      values.eosToken = eosTokens.contains(values.eosToken ?? -1) ? values.eosToken : first
    }
    values.eotToken = eosTokens.first { $0 != values.eosToken }
    return values
  }

  /// The type of a tensor of the language model.
  private func textType(_ part: GGUFExport.Part) -> StoredType {
    guard part.shape.count == 2 else { return .floats(.f32) }
    let isHead = ["language_model.lm_head.weight", "language_model.model.embed_tokens.weight"].contains(part.name)
    return Self.type(isHead ? type.head : type.blocks, inputs: part.shape[1])
  }

  /// The type for rows of `inputs` values: `blocks`, or one of smaller blocks if these do not divide the row, or F16 if
  /// no block does.
  private static func type(_ blocks: BlockType, inputs: Int) -> StoredType {
    guard BlockWeights.supports(inputs: inputs) else { return .floats(.f16) }
    return .blocks(BlockWeights.type(blocks, inputs: inputs))
  }

  /// The type of a tensor of the vision encoder: F16 for matrices, as in published files.
  private static func visionType(_ part: GGUFExport.Part) -> StoredType {
    part.shape.count >= 2 ? .floats(.f16) : .floats(.f32)
  }
}

extension GGUFExport {
  /// Adds the keys of a tokenizer.
  fileprivate mutating func set(_ tokenizer: GGUFTokenizer) {
    typealias Key = GGUFTokenizer.Key
    func add(_ key: Key, _ value: GGUFWriter.Value?) { if let value { append(key.rawValue, value) } }
    add(.model, .text(tokenizer.model))
    add(.pre, tokenizer.pre.map { .text($0) })
    add(.tokens, .texts(tokenizer.tokens))
    add(.scores, tokenizer.scores.map { .reals($0) })
    add(.types, tokenizer.types.map { .integers($0) })
    add(.merges, tokenizer.merges.map { .texts($0) })
    let tokens: [(Key, Int?)] = [
      (.bosToken, tokenizer.bosToken), (.eosToken, tokenizer.eosToken), (.eotToken, tokenizer.eotToken),
      (.eomToken, tokenizer.eomToken), (.unkToken, tokenizer.unkToken), (.padToken, tokenizer.padToken),
    ]
    for (key, token) in tokens { add(key, token.map { .integer(UInt32($0)) }) }
    let switches: [(Key, Bool?)] = [
      (.addsBOS, tokenizer.addsBOS), (.addsEOS, tokenizer.addsEOS), (.addsSpacePrefix, tokenizer.addsSpacePrefix),
      (.removesExtraWhitespaces, tokenizer.removesExtraWhitespaces), (.isLegacy, tokenizer.isLegacy),
    ]
    for (key, isOn) in switches { add(key, isOn.map { .bool($0) }) }
    add(.chatTemplate, tokenizer.chatTemplate.map { .text($0) })
    add(.huggingFaceJSON, tokenizer.huggingFaceJSON.map { .text($0) })
  }
}
