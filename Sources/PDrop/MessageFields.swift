package import Storage

/// The fields of records, messages and parts of messages that are not read, by their effect on an answer.
package enum MessageFields {
  /// Whether a member of a message would change the prompt, or may do so, and is not read.
  static func isUnreadInMessage(_ member: JSONValue.Member, of _: JSONValue) -> Bool {
    !read.contains(ByteString(member.key)) && !notes.contains(ByteString(member.key)) && !isAbsent(member.value)
  }

  /// Whether a member of a part has an image that is not read, as in a part of type `text` with an `image`.
  static func isUnreadInPart(_ member: JSONValue.Member, of part: JSONValue) -> Bool {
    let isText = ["text", "type"].contains { ByteString($0) == ByteString(member.key) }
    guard isImage(member.key) || !isText && hasImage(member.value), !isAbsent(member.value) else { return false }
    let isRead = ["image", "image_url"].contains { ByteString($0) == ByteString(member.key) }
    // A text part of OpenAI has a type; one without is read by its text.
    let isTextPart = part["type"].string.map { !$0.contains("image") } ?? !part["text"].isNull
    return !isRead || isTextPart && !part["text"].isNull
  }

  /// The fields of a message that are read.
  private static let read = Set(["role", "content"].map { ByteString($0) })

  /// The fields of a message that do not change the prompt.
  private static let notes = Set(
    ["name", "id", "refusal", "annotations", "metadata", "cache_control", "timestamp", "created_at", "weight"].map {
      ByteString($0)
    })

  /// Whether a value is the same as a missing field.
  package static func isAbsent(_ value: JSONValue) -> Bool {
    switch value {
    case .null, .bool(false), .integer(0): true
    case .array(let values): values.isEmpty
    case .object(let members): members.isEmpty
    default: false
    }
  }

  /// Whether a field's name is one that people give to an image, whatever its spelling: `images`, `Image`,
  /// `image_file`, `imagePath`, `img`, `file_name`, `video_url` and so on.
  package static func isImage(_ name: String) -> Bool {
    let words = words(of: name)
    return words.contains { imageWords.contains($0) || $0.hasPrefix("picture") } || fileNames.contains(words.joined())
  }

  private static let imageWords: Set<String> = [
    "image", "images", "img", "imgs", "pic", "pics", "photo", "photos", "photograph",
    "screenshot", "screenshots", "video", "videos", "pixels", "imagefile", "imagefiles", "imagepath", "imagepaths",
    "imageurl", "imageurls", "imagename", "imagenames", "imagedata", "imagelist", "imgpath", "imgfile", "imgurl",
    "imgname",
  ]

  /// Names of files without a word for an image.
  private static let fileNames: Set<String> = [
    "file", "files", "filename", "filenames", "filepath", "filepaths", "path", "paths", "media", "mediapath",
    "mediaurl", "visual", "visuals", "frame", "frames", "jpg", "jpeg", "png", "webp",
  ]

  /// Whether the messages of a body have an image that is read.
  package static func readsImages(_ body: JSONValue) -> Bool {
    (body["messages"].array ?? []).contains { message in
      (message["content"].array ?? []).contains { !$0["image_url"].isNull || !$0["image"].isNull }
    }
  }

  /// Whether a value is or contains an image: a data URL, an encoded image, or a path or URL of an image file.
  package static func hasImage(_ value: JSONValue) -> Bool {
    contains(value) { isEncodedImage($0) || isImageFile($0) }
  }

  /// Whether a value is or contains a data URL of an image, or an encoded image.
  package static func hasEncodedImage(_ value: JSONValue) -> Bool { contains(value, isEncodedImage) }

  private static func contains(_ value: JSONValue, _ isMatch: (String) -> Bool) -> Bool {
    switch value {
    case .string(let text): isMatch(text)
    case .array(let values): values.contains { contains($0, isMatch) }
    case .object(let members): members.contains { contains($0.value, isMatch) }
    default: false
    }
  }

  private static func isEncodedImage(_ text: String) -> Bool {
    let start = String(text.unicodeScalars.drop { $0.properties.isWhitespace }.prefix(16))
    // JPEG, PNG and WebP in base64.
    return start.lowercased().hasPrefix("data:image")
      || text.utf8.count > 64 && ["/9j/", "iVBORw0KGgo", "UklGR"].contains { start.hasPrefix($0) }
  }

  /// Whether a text is a path or URL of an image file, and not a sentence that ends with one.
  private static func isImageFile(_ text: String) -> Bool {
    guard text.utf8.count <= 4096 else { return false }
    let words = text.split { $0.isWhitespace }
    guard words.count == 1 || text.contains("/"), !text.contains(where: \.isNewline) else { return false }
    let name = words.joined(separator: " ").prefix { $0 != "?" && $0 != "#" }.split(separator: "/").last ?? ""
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count > 1, parts[0].contains(where: { $0.isLetter || $0.isNumber }) else { return false }
    return imageExtensions.contains(parts[parts.count - 1].lowercased())
  }

  private static let imageExtensions: Set<String> = [
    "jpg", "jpeg", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif",
  ]

  /// Whether a field's name is another spelling of `image`, not a note about an image such as `image_id`.
  package static func isOtherSpellingOfImage(_ name: String) -> Bool {
    let name = words(of: name).joined()
    return ["image", "img", "pic", "picture", "photo", "video"].contains { word in
      ["", "s", "file", "files", "path", "paths", "url", "urls", "data", "list"].contains { name == word + $0 }
    }
  }

  /// The words of a name in lower case: `imageFile`, `IMAGE_FILE` and `image-file` have two each.
  package static func words(of name: String) -> [String] {
    var words = [""]
    var isAfterLower = false
    // A hostile name can have any length; a field's name is short.
    for scalar in name.unicodeScalars.prefix(80) {
      guard scalar.properties.isAlphabetic else {
        words.append("")
        isAfterLower = false
        continue
      }
      if scalar.properties.isUppercase, isAfterLower { words.append("") }
      isAfterLower = scalar.properties.isLowercase
      words[words.count - 1] += scalar.properties.lowercaseMapping
    }
    return words.filter { !$0.isEmpty }
  }
}
