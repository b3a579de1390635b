// Whose a connection is, by a JSON Web Token with HS256: what every server here checks.

import { createHmac, timingSafeEqual } from "node:crypto";

const secret = process.env.JWT_SECRET;

/** The user id of a good token, else null. */
export function userOf(token) {
  const [head, claims, tag] = (token ?? "").split(".");
  if (!tag) return null;
  const expected = createHmac("sha256", secret).update(`${head}.${claims}`).digest();
  const given = Buffer.from(tag, "base64url");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return null;
  if (JSON.parse(Buffer.from(head, "base64url")).alg !== "HS256") return null;
  const { sub, exp } = JSON.parse(Buffer.from(claims, "base64url"));
  return exp * 1000 > Date.now() ? sub : null;
}

/** Says where the server is: the first line of its output. */
export function announce(server) {
  server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", 4096, () => {
    console.log(`127.0.0.1:${server.address().port}`);
  });
}
