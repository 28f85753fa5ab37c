package import Storage

/// An error in a model directory or one of its files.
package enum CheckpointError: UserFacingError, Equatable {
  case file(FileError)
  case notADirectory(path: String, isFile: Bool)
  case noWeights(directory: String, found: [String])
  /// A directory of an adapter without its base model.
  case adapterAlone(directory: String, kind: String, base: String?)
  /// Weights with the tensors of an adapter apart.
  case unmergedAdapter(file: String, tensor: String)
  /// - Parameters:
  ///   - evidence: The key or the tensor that shows it.
  ///   - source: The model before quantization, if it is named.
  case quantized(path: String, method: String, evidence: String, source: String?)
  /// Numbered shards without an index, of which some are missing.
  case missingShards(directory: String, missing: [String], total: Int)
  case ambiguousShards(directory: String, found: [String])
  /// Weights without a projector, which is in another file.
  case projectorApart(tensor: String, directory: String, file: String)
  case malformed(file: String, reason: String)
  case badValue(file: String, key: String, expected: String, found: String)
  case missingTensor(name: String, directory: String)
  case shapeMismatch(name: String, expected: [Int], found: [Int], file: String)
  case unsupportedElement(name: String, found: String, file: String)
  /// A tensor type of a GGUF file that is not supported.
  case unsupportedTensorType(name: String, found: String, file: String)
  /// A vision encoder (mmproj) and a language model of different models.
  case pairMismatch(mmproj: String, features: Int, model: String, embeddings: Int)
  /// A language model in place of a vision encoder, or the reverse.
  case swappedGGUF(file: String, isVisionEncoder: Bool)
  /// Several GGUF files of one kind, of which one is needed.
  case ambiguousGGUF(directory: String, isVisionEncoder: Bool, found: [String])
  /// A directory of GGUF files without a language model.
  case noLanguageModel(directory: String, found: [String])
  case unneededMMProj(directory: String, given: String)
  /// A CLIP directory for a GGUF file, whose vision encoder is an mmproj file.
  case visionTowerOfGGUF(path: String, given: String)
  /// A part of a model that GGUF files cannot describe.
  case notInGGUF(part: String)
  case duplicateTensor(name: String, file: String)
  case missingVisionTower(directory: String, name: String, looked: [String])
  case missingTrainedVisionTower(directory: String)
  case unneededVisionTower(directory: String, given: String)
  case stridedTensor(name: String, shape: [Int], strides: [Int], file: String)
  case forbiddenGlobal(name: String, file: String)
  /// A file in a format that PyTorch reads but this reader does not.
  case convertible(file: String, reason: String)

  package var category: ErrorCategory { .model }
  package var problem: String {
    switch self {
    case .file(let error):
      error.description
    case .notADirectory(let path, let isFile):
      "\(path): expected a model directory (config.json, tokenizer.json, *.safetensors) or a GGUF file, found "
        + (isFile ? "a file that is not GGUF; give the directory that contains it" : "none")
    case .noWeights(let directory, let found) where found.isEmpty:
      "\(directory): no weights; expected \(WeightFiles.names.joined(separator: " or "))"
    case .noWeights(let directory, let found):
      "\(directory): no weights in a known file, found \(Self.list(found)); "
        + "save the model as safetensors (save_pretrained(..., safe_serialization=True))"
    case .adapterAlone(let directory, let kind, let base):
      "\(directory): a \(kind) adapter\(base.map { " of \($0.excerpt)" } ?? ""), without the weights of a model; "
        + Self.merging
    case .unmergedAdapter(let file, let tensor):
      "\(file): a LoRA adapter is not merged into the weights (\(tensor.excerpt)); " + Self.merging
    case .quantized(let path, let method, let evidence, let source):
      "\(path): the weights are quantized by \(method) (\(evidence)), expected F32, F16 or BF16; "
        + "take the directory of the model before quantization" + (source.map { ", \($0.excerpt)" } ?? "")
    case .missingShards(let directory, let missing, let total):
      "\(directory): \(missing.count) of \(total) shards are missing, expected also \(Self.list(missing)); "
        + "is the download complete?"
    case .ambiguousShards(let directory, let found):
      "\(directory): shards of several checkpoints and no index, found \(Self.list(found)); "
        + "keep the shards of one, or add their index (model.safetensors.index.json)"
    case .projectorApart(let tensor, let directory, let file):
      "\(directory): the checkpoint has no tensor \(tensor.excerpt); the projector is in \(file), which is not read; "
        + "add its tensors to the weights"
    case .malformed(let file, let reason):
      "\(file): \(reason)"
    case .badValue(let file, let key, let expected, let found):
      "\(file): \(key): expected \(expected), found \(found)"
    case .missingTensor(let name, let directory):
      "\(directory): the checkpoint has no tensor \(name.excerpt); is the download complete?"
    case .shapeMismatch(let name, let expected, let found, let file):
      "\(file): \(name.excerpt) has shape \(found.shapeText), expected \(expected.shapeText) from the configuration"
    case .unsupportedElement(let name, let found, let file):
      "\(file): \(name.excerpt) is stored as \(found.excerpt), expected F32, F16 or BF16; "
        + "save the model in one of them (save_pretrained after model.to(torch.bfloat16))"
    case .unsupportedTensorType(let name, let found, let file):
      "\(file): \(name.excerpt) is stored as \(found), which is not supported; take a file in F16, Q8_0, Q4_K_M or "
        + "another common type"
    case .pairMismatch(let mmproj, let features, let model, let embeddings):
      "\(mmproj): the features of images have \(features) columns (rows of mm.2.weight), expected the "
        + "\(embeddings) of \(model) (embedding_length); the files are not of one model"
    case .swappedGGUF(let file, isVisionEncoder: true):
      "\(file): a vision encoder (mmproj), expected a language model; give the two files the other way round"
    case .swappedGGUF(let file, isVisionEncoder: false):
      "\(file): a language model, expected a vision encoder (mmproj, general.architecture 'clip')"
    case .ambiguousGGUF(let directory, isVisionEncoder: true, let found):
      "\(directory): \(found.count) vision encoders (mmproj), found \(Self.list(found))"
    case .ambiguousGGUF(let directory, isVisionEncoder: false, let found):
      "\(directory): \(found.count) language models, found \(Self.list(found)); give the path of one"
    case .noLanguageModel(let directory, let found):
      "\(directory): no language model in a GGUF file, found \(Self.list(found)) (mmproj); add the model of the pair"
    case .unneededMMProj(let directory, _):
      "\(directory): the checkpoint contains its vision encoder"
    case .visionTowerOfGGUF(let path, _):
      "\(path): the vision encoder of a GGUF model is its mmproj file"
    case .notInGGUF(let part):
      "the model cannot be written as GGUF: it has \(part), which GGUF files cannot describe"
    case .duplicateTensor(let name, let file):
      "\(file): the tensor \(name.excerpt) occurs twice"
    case .missingVisionTower(let directory, let name, let looked):
      "\(directory): the vision encoder \(name.excerpt) is not in the checkpoint, and no directory was found at "
        + Self.list(looked, limit: 9)
    case .missingTrainedVisionTower(let directory):
      "\(directory): config.json declares a trained vision encoder, but the checkpoint has no model.vision_tower.* "
        + "tensors, and stock CLIP has other weights; is the download complete?"
    case .unneededVisionTower(let directory, _):
      "\(directory): the checkpoint contains its vision encoder"
    case .stridedTensor(let name, let shape, let strides, let file):
      "\(file): \(name.excerpt) of shape \(shape.shapeText) has strides \(strides.shapeText), expected contiguous rows; \(Self.conversion)"
    case .forbiddenGlobal(let name, let file):
      "\(file): refused: the pickle refers to \(name.excerpt), which no tensor needs"
        + (name.hasPrefix("torch._utils.") ? "; \(Self.conversion)" : "")
    case .convertible(let file, let reason):
      "\(file): \(reason); \(Self.conversion)"
    }
  }

  package var remedies: [Remedy] {
    switch self {
    case .missingVisionTower: [.visionTower]
    case .unneededVisionTower(_, let given), .visionTowerOfGGUF(_, let given): [.omitVisionTower(given)]
    case .ambiguousGGUF(_, isVisionEncoder: true, _): [.mmproj]
    case .unneededMMProj(_, let given): [.omitMMProj(given)]
    default: []
    }
  }

  private static let merging =
    "merge it into its base model first (merge_and_unload() of peft, then save_pretrained)"

  /// Names of files for a message.
  private static func list(_ names: [String], limit: Int = 4) -> String {
    names.prefix(limit).map(\.nameText).joined(separator: ", ") + (names.count > limit ? ", …" : "")
  }

  /// The command that converts `.bin` files to safetensors; `weights_only` stops PyTorch from running code in them.
  private static let conversion = """
    with torch 2.6 or later and safetensors, run in its directory: python3 -c "import glob, torch, safetensors.torch as s; \
    d = {}; [d.update(torch.load(f, 'cpu', weights_only=True)) for f in sorted(glob.glob('pytorch_model*.bin'))]; \
    s.save_file({k: d.pop(k).clone(memory_format=torch.contiguous_format) for k in list(d) if torch.is_tensor(d[k])}, \
    'model.safetensors', {'format': 'pt'})"
    """
}

extension GitLFSPointer {
  /// Refuses a Git LFS pointer in place of the file.
  static func refuse(_ bytes: SharedBytes, file: String) throws(CheckpointError) {
    guard !isFound(bytes.copy(0..<min(beginning.count, bytes.count))) else {
      throw .malformed(file: file, reason: reason)
    }
  }
}

extension [Int] {
  /// A shape for a message, at most eight numbers.
  var shapeText: String {
    count > 8 ? "[" + prefix(8).map(String.init).joined(separator: ", ") + ", …]" : "\(self)"
  }
}

extension String {
  /// A file name or path for a message: as it is if it is short and plain, otherwise an excerpt.
  var nameText: String {
    unicodeScalars.prefix(201).count <= 200 && !unicodeScalars.contains { $0.value < 0x20 } ? self : excerpt
  }
}
