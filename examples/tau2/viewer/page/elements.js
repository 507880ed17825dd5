"use strict";

// The page's data, and the functions that make elements. The scripts of this folder are one script.

const { episodes, charts, failureKinds } = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const filters = byId("filters");
const list = byId("list");
const reading = byId("reading");
const placeholder = [...reading.childNodes];

// Every element is made here. Text becomes text nodes: a model's text is never read as HTML.
function el(tag, { className = "", ...properties } = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

// Lets the browser break long ids and paths after these characters.
const breakable = (text) => text.split(/(?<=[_|\].])/).flatMap((part) => [part, el("wbr")]);

const number = (value) =>
  value === null
    ? "?"
    : Number.isInteger(value)
      ? String(value)
      : value.toFixed(3).replace(/0+$/, "");
const rewardClass = (value) => (value >= 1 ? "good" : value > 0 ? "warn" : "bad");
