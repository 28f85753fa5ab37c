/// The formats of JSON Schema that are supported, as regular expressions of the whole text.
enum Format: String, CaseIterable {
  case date
  case time
  case dateTime = "date-time"
  case uuid
  case ipv4
  case email

  var pattern: String {
    switch self {
    case .date: Self.datePattern
    case .time: Self.timePattern
    case .dateTime: "(\(Self.datePattern))T(\(Self.timePattern))"
    case .uuid: "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    case .ipv4: "\(Self.octet)(\\.\(Self.octet)){3}"
    case .email: Self.emailPattern
    }
  }

  /// RFC 3339's `full-date`, of the years 0001 to 9999 and with the leap years of the Gregorian calendar.
  private static let datePattern = """
    (?:(?:[0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})-\
    (?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))\
    |(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)-02-29)
    """
  /// RFC 3339's `full-time`, without leap seconds.
  private static let timePattern = """
    (?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])
    """
  private static let octet = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
  /// Addresses of dot-separated atoms at a host name, with lengths that RFC 5321 allows.
  private static let emailPattern = """
    [A-Za-z0-9_+-]{1,16}(?:\\.[A-Za-z0-9_+-]{1,16}){0,2}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?\
    (?:\\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?){0,2}\\.[A-Za-z]{2,16}
    """
}
