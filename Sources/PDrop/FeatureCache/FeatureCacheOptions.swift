/// A folder that keeps what a model has seen of pictures, so that a picture asked about again, in another run as well, is
/// neither decoded nor encoded.
///
/// Answers are the same byte for byte. A file belongs to the bytes of a picture, the model's weights and settings, how pictures
/// are fitted and turned, what the tower multiplies in and with which library, and to the program: with another of these it is
/// not looked at. A file takes four bytes for each number of its features, 9.4 MB for a picture in LLaVA-1.5-7B and up to 48 MB
/// in LLaVA-NeXT-7B. All of it is checked when it is read; what does not hold is made anew. The checks guard against damage,
/// not against somebody who may write to the folder and means harm.
///
/// Several processes, on several machines as well, may share a folder.
public struct FeatureCacheOptions: Sendable {
  public static let defaultByteLimit = 10 << 30

  /// Made when there is something to keep.
  public var directory: String
  /// The files that were not used for the longest time are removed so that all take no more bytes; nothing else in the folder
  /// is touched. Processes that write at the same time may together be above it by a twentieth each.
  public var byteLimit: Int
  /// Told in one line, from any thread, of a file that is damaged, and once when no more can be kept.
  public var warn: @Sendable (String) -> Void

  public init(
    directory: String, byteLimit: Int = defaultByteLimit, warn: @escaping @Sendable (String) -> Void = { _ in }
  ) {
    self.directory = directory
    self.byteLimit = byteLimit
    self.warn = warn
  }
}

/// What a feature cache has done since its model was loaded.
public struct FeatureCacheReport: Codable, Sendable, Equatable {
  /// Pictures whose features were there.
  public var hits = 0
  /// Pictures whose features were not, and files that turned out to be no pictures.
  public var misses = 0
  /// Misses among these because a file was damaged or not what its name says.
  public var damaged = 0
  /// Files written; fewer than misses where a record fails, where another process was faster, or where none can be kept.
  public var written = 0
  /// Files removed to make room.
  public var removed = 0
  public var bytes_read = 0
  public var bytes_written = 0
  /// Operations of tower and projector that hits have saved.
  public var flops_saved = 0

  public init() {}
}
