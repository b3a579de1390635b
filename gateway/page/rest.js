// Of the page, what is loaded behind the first messages.

export { Activity } from "./activity.js";
export { setFormatted } from "./formatted.js";
export { noticeOf } from "./notices.js";
export { PeopleList, renderTyping } from "./people.js";
