// node client.mjs URL PICTURE OUT: what a PaddleX client in Node does
import { readFileSync, writeFileSync } from 'node:fs';

const [url, picture, out] = process.argv.slice(2);
const response = await fetch(url, {
  method: 'POST',
  body: JSON.stringify({ image: readFileSync(picture).toString('base64') }),
});
const { errorCode, errorMsg, result } = await response.json();
writeFileSync(out, Buffer.from(result.image, 'base64'));
console.log(errorCode, errorMsg, result.detectedObjects.map((found) => found.categoryName).join(','));
