package import Storage

/// An error in a model directory or one of its files.
package enum CheckpointError: UserFacingError, Equatable {
  case file(FileError)
  case notADirectory(path: String)
  case noWeights(directory: String, found: [String])
  case malformed(file: String, reason: String)
  case badValue(file: String, key: String, expected: String, found: String)
  case missingTensor(name: String, directory: String)
  case shapeMismatch(name: String, expected: [Int], found: [Int], file: String)
  case unsupportedElement(name: String, found: String, file: String)
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
    case .notADirectory(let path):
      "\(path): expected a model directory (config.json, tokenizer.json, *.safetensors), found none"
    case .noWeights(let directory, let found) where found.isEmpty:
      "\(directory): no weights; expected \(Checkpoint.fileNames.joined(separator: " or "))"
    case .noWeights(let directory, let found):
      "\(directory): no weights in a known file, found \(found.joined(separator: ", ")); "
        + "save the model as safetensors (save_pretrained(..., safe_serialization=True))"
    case .malformed(let file, let reason):
      "\(file): \(reason)"
    case .badValue(let file, let key, let expected, let found):
      "\(file): \(key): expected \(expected), found \(found)"
    case .missingTensor(let name, let directory):
      "\(directory): the checkpoint has no tensor '\(name)'; is the download complete?"
    case .shapeMismatch(let name, let expected, let found, let file):
      "\(file): '\(name)' has shape \(found), expected \(expected) from config.json"
    case .unsupportedElement(let name, let found, let file):
      "\(file): '\(name)' is stored as \(found), expected F32, F16 or BF16"
    case .duplicateTensor(let name, let file):
      "\(file): the tensor '\(name)' occurs twice"
    case .missingVisionTower(let directory, let name, let looked):
      "\(directory): the vision encoder '\(name)' is not in the checkpoint, nor a directory at "
        + "\(looked.joined(separator: ", "))"
    case .missingTrainedVisionTower(let directory):
      "\(directory): config.json declares a trained vision encoder, but the checkpoint has no model.vision_tower.* "
        + "tensors, and stock CLIP has other weights; is the download complete?"
    case .unneededVisionTower(let directory, _):
      "\(directory): the checkpoint contains its vision encoder"
    case .stridedTensor(let name, let shape, let strides, let file):
      "\(file): '\(name)' of shape \(shape) has strides \(strides), expected contiguous rows; \(Self.conversion)"
    case .forbiddenGlobal(let name, let file):
      "\(file): refused: the pickle refers to '\(name)', which no tensor needs"
        + (name.hasPrefix("torch._utils.") ? "; \(Self.conversion)" : "")
    case .convertible(let file, let reason):
      "\(file): \(reason); \(Self.conversion)"
    }
  }

  package var remedies: [Remedy] {
    switch self {
    case .missingVisionTower: [.visionTower]
    case .unneededVisionTower(_, let given): [.omitVisionTower(given)]
    default: []
    }
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
