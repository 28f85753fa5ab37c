/// Settings of the prompt cache: a folder of prefilled prompts, so that later requests and runs about the same images
/// need not compute them again.
///
///     var options = VisionLanguageModel.Options()
///     options.promptCache = PromptCacheOptions(directory: folder + "/prompts", byteLimit: 1 << 30)
///     let model = try VisionLanguageModel(directory: "Models/tiny-textvqa", options: options)
///     let image = Request.Image.file("Models/samples/bike.png")
///     _ = try Session(model, Request(question: "What colour is the bike?", images: [image]), threads: 4)
///     print(model.promptCacheStatistics?.hits ?? 0)  // 0 in the first run, 1 in later ones
///
/// A file has the keys and values of a whole prompt and the logits of the first token, for the same question with the
/// same policy; or those of the prefix that ends with the last image, up to the first drop, for other questions. With
/// either, the vision encoder does not run. Answers and reports are the same byte for byte, apart from times.
///
/// A file is used only with the same tokens, image bytes and drops, and with everything that a feature cache depends
/// on, the compute type of the decoder and the data type of the KV cache. Prefixes are stored where prompts give the
/// same bits in two parts as in one, which f32 does not.
///
/// Files are checked in full when they are read, and a damaged file is replaced. The checks detect damage, not
/// deliberate manipulation by a user with write access to the folder.
///
/// Several processes may share a folder, also from several machines.
public struct PromptCacheOptions: Sendable {
  public static let defaultByteLimit = 10 << 30

  /// Path of the folder, which is created when the first file is stored.
  public var directory: String
  /// Maximum size of all files. The least recently used ones are removed; other files in the folder are not touched.
  /// Every process that writes at the same time may exceed it by a twentieth.
  public var byteLimit: Int
  /// Callback for warnings of one line, from any thread: once for damaged files, and once when storing fails.
  public var warn: @Sendable (String) -> Void

  public init(
    directory: String, byteLimit: Int = defaultByteLimit, warn: @escaping @Sendable (String) -> Void = { _ in }
  ) {
    self.directory = directory
    self.byteLimit = byteLimit
    self.warn = warn
  }
}

/// Counts of a prompt cache since its model was loaded.
public struct PromptCacheStatistics: CacheStatistics, Codable, Sendable, Equatable {
  /// Requests whose whole prompt was in the cache.
  public var hits = 0
  /// Requests whose whole prompt was not.
  public var misses = 0
  /// Misses whose prefix was read from the cache.
  public var prefixHits = 0
  /// Files that were damaged or did not match their name.
  public var damaged = 0
  /// Files written, of prompts and of prefixes.
  public var written = 0
  /// Files removed to free space.
  public var removed = 0
  public var bytesRead = 0
  public var bytesWritten = 0
  /// Operations of vision encoder, projector and decoder that hits saved.
  public var flopsSaved = 0

  public init() {}

  enum CodingKeys: String, CodingKey {
    case hits, misses, damaged, written, removed
    case prefixHits = "prefix_hits"
    case bytesRead = "bytes_read"
    case bytesWritten = "bytes_written"
    case flopsSaved = "flops_saved"
  }
}
